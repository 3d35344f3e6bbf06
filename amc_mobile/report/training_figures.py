"""The pictures of training: loss, and accuracy on the images set aside, over the epochs."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from amc_mobile.report import drawing as ink
from amc_mobile.report import wording as say
from amc_mobile.report.drawing import LegendEntry, Picture, panels, to_svg
from amc_mobile.train.history import Epoch, History

_PANEL_PX = 150


def curve(name: str, title: str, history: History) -> Picture:
    """Loss of every epoch, below it the share of right answers on validation images if there were any."""
    judged = [epoch for epoch in history.epochs if epoch.validation_accuracy is not None]
    with panels((2 if judged else 1) * _PANEL_PX, 2 if judged else 1) as (figure, axes):
        _line(axes[0], [(epoch.number, epoch.loss) for epoch in history.epochs], "loss", ink.BEFORE)
        if judged:
            points = [(epoch.number, 100 * (epoch.validation_accuracy or 0)) for epoch in judged]
            _line(axes[1], points, "right (%)", ink.AFTER)
            axes[1].axvline(history.best_epoch, color=ink.WALL, lw=1.6, dashes=(5, 2.5))
        axes[-1].set_xlabel("epoch")
        axes[-1].xaxis.set_major_locator(MaxNLocator(8, integer=True))
        svg = to_svg(figure, name, title, sentence(history))
    legend = [LegendEntry("line", "before", "loss, mean of the epoch")]
    if judged:
        legend += [
            LegendEntry("line", "after", f"accuracy on {history.validation_images:,} validation images"),
            LegendEntry("wall", "wall", "the epoch whose weights count"),
        ]
    return Picture(name, title, sentence(history), svg, tuple(legend))


def sentence(history: History) -> str:
    """The same in words."""
    first, last = history.epochs[0], history.epochs[-1]
    early = f" of {history.asked_epochs} (stopped early)" if history.stopped_early else ""
    text = (
        f"{len(history.epochs)} epochs{early} of {history.images:,} images in {say.duration(history.seconds)}. "
        f"The loss went from {first.loss:.3f} to {last.loss:.3f}."
    )
    best = _best(history)
    if best is None or best.validation_accuracy is None:
        return text
    return f"{text} Best on validation images: {say.percent(best.validation_accuracy)} after epoch {best.number}."


def _best(history: History) -> Epoch | None:
    return next((epoch for epoch in history.epochs if epoch.number == history.best_epoch), None)


def _line(axes: Axes, points: list[tuple[int, float]], label: str, colour: str) -> None:
    axes.plot(*zip(*points, strict=True), "o-", color=colour, lw=2, markersize=4, mew=0)
    axes.set_ylabel(label)
    axes.yaxis.set_major_locator(MaxNLocator(4))

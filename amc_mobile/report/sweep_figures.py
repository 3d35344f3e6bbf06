"""The picture of a sweep: accuracy against measured time on one device, all runs, their means, the front."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from matplotlib.axes import Axes

from amc_mobile.report import drawing as ink
from amc_mobile.report import wording as say
from amc_mobile.report.drawing import LegendEntry, Picture, canvas, to_svg
from amc_mobile.report.labels import Label, Point, place
from amc_mobile.report.sweep import SweptDevice, Variant

_ROLES: Final = ("after", "purple", "green", "amber", "sky", "rose")  # of the agents


def draw_sweep(device: SweptDevice, number: int, metric: str) -> Picture:
    """Accuracy on test images over measured time; the original, every run, means with the range of their seeds."""
    emulated = " (EMULATED)" if device.emulated else ""
    name, title = f"front-{number}", f"Accuracy against time on {device.name}{emulated}"
    agents = list(dict.fromkeys(each.agent for each in device.variants))
    roles = {agent: _ROLES[place % len(_ROLES)] for place, agent in enumerate(agents)}
    front = [each for each in device.variants if each.front]
    several = any(len(each.seeds) > 1 for each in device.variants)
    text = (
        f"{len(device.runs)} runs of {len(device.variants)} kinds; {len(front)} on the front, which no other beats. "
        f"Times are measured beside the original, and brought to one clock by its time ({say.ms(device.before_us)})."
    )
    legend = [LegendEntry("dot", roles[agent], agent if len(agents) > 1 else "pruned") for agent in agents]
    if several:
        legend.append(LegendEntry("ring", "muted", "one seed; lines: least and largest"))
    legend += [LegendEntry("line", "ink", "Pareto front"), LegendEntry("hollow", "before", "original")]
    with canvas(280) as (figure, axes):
        front_line = _draw(axes, device, roles)
        axes.set_xlabel("latency (ms)")
        axes.set_ylabel(f"{metric.replace('top', 'top-')} on test images (%)")
        labels = [Label(each.budget, (_place(each),), ink.MUTED, 9, optional=True) for each in front]
        place(figure, axes, labels, [_place(each) for each in device.variants], [front_line])
        svg = to_svg(figure, name, title, text)
    return Picture(name, title, text, svg, tuple(legend))


def _place(each: Variant) -> Point:
    """The mean in milliseconds and percent."""
    return each.after_us.mean / 1e3, 100 * each.accuracy.mean


def _draw(axes: Axes, device: SweptDevice, roles: dict[str, str]) -> list[Point]:
    """Draws everything but words; answers the corners of the front."""
    for run in device.runs:
        colour = ink.STAND_INS[roles[run.agent]]
        axes.plot(run.after_us / 1e3, 100 * run.accuracy, "o", ms=5, mfc="none", mec=colour, mew=1.0, alpha=0.7)
    for each in device.variants:
        colour = ink.STAND_INS[roles[each.agent]]
        x, y = each.after_us, each.accuracy
        axes.plot([x.least / 1e3, x.most / 1e3], [100 * y.mean] * 2, color=colour, lw=1.2)
        axes.plot([x.mean / 1e3] * 2, [100 * y.least, 100 * y.most], color=colour, lw=1.2)
        axes.plot(*_place(each), "o", ms=8, color=colour, mec=ink.SURFACE, mew=1.2)
    steps = [_place(each) for each in device.variants if each.front]
    steps.append((max(device.before_us, *(run.after_us for run in device.runs)) / 1e3, steps[-1][1]))
    corners = [steps[0], *(end for one, next_ in pairwise(steps) for end in ((next_[0], one[1]), next_))]
    axes.plot(*zip(*corners, strict=True), color=ink.INK, lw=1.4, zorder=1)
    axes.plot(device.before_us / 1e3, 100 * device.accuracy_before.mean, "D", ms=8, mfc="none", mec=ink.BEFORE, mew=2.2)
    axes.margins(0.08)
    axes.ticklabel_format(useOffset=False)
    axes.locator_params(axis="x", nbins=6)
    return corners

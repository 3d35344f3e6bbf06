"""Accuracy against the clock: networks made by several methods, measured on one device, in one picture.

One line for each method and precision, named beside it. Colour and mark tell the method, a full line and filled
marks float32, a dashed line and hollow marks int8. Crosses are 95 % intervals.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from amc_mobile.report import drawing as ink
from amc_mobile.report import wording as say
from amc_mobile.report.drawing import LegendEntry, Picture, canvas, to_png, to_svg
from amc_mobile.report.labels import Label, Point, place
from amc_mobile.types import Precision

ORIGINAL: Final = "original"  # the method that prunes nothing
_STYLES: Final = (  # colour role, marker and its shape in the legend
    ("after", "o", "dot"),
    ("amber", "s", "square"),
    ("green", "^", "up"),
    ("purple", "D", "diamond"),
    ("rose", "v", "down"),
    ("sky", "P", "plus"),
    ("muted", "X", "cross"),
)
_ORIGINAL_STYLE: Final = ("before", "D", "diamond")
_WIDTH_PX, _HEIGHT_PX = 560, 380


@dataclass(frozen=True, slots=True)
class ClockPoint:
    """One measured network.

    `method` says how it was made ("AMC under latency"; ORIGINAL for the one that was not pruned), `label` which of the
    method's networks it is ("65 %"; may be empty). Accuracies are fractions in [0, 1]; intervals are 95 %, None where
    unknown.
    """

    method: str
    precision: Precision
    latency_us: float
    accuracy: float
    label: str = ""
    latency_ci: tuple[float, float] | None = None
    accuracy_ci: tuple[float, float] | None = None


def against_clock(
    points: Sequence[ClockPoint],
    *,
    title: str = "Accuracy against the clock",
    metric: str = "top-1",
    device: str = "",
    name: str = "clock",
) -> Picture:
    """The picture of some networks that one device timed.

    Args:
        points: at least one; those of one method and precision become a line, in the order of their latency.
        title: stands above the picture.
        metric: what the accuracy is: "top-1", "mAP".
        device: on what the networks were timed, for the axis: "AMD EPYC, 1 thread".
        name: prefix of the SVG's identifiers; different in every picture of a page.
    """
    text = description(points, metric)
    with canvas(_HEIGHT_PX, _WIDTH_PX) as (figure, axes):
        _draw(figure, axes, points, metric, device, ink.STAND_INS)
        svg = to_svg(figure, name, title, text)
    return Picture(name, title, text, svg, _legend(points))


def against_clock_png(points: Sequence[ClockPoint], *, metric: str = "top-1", device: str = "") -> bytes:
    """The same as a PNG file on white, without title and legend: the labels in it say everything."""
    with canvas(_HEIGHT_PX, _WIDTH_PX, ink.light()) as (figure, axes):
        _draw(figure, axes, points, metric, device, ink.light())
        return to_png(figure)


def description(points: Sequence[ClockPoint], metric: str = "top-1") -> str:
    """What the picture shows, in words: every line with its fastest and its slowest network."""
    parts = []
    for (method, precision), line in lines(points).items():
        ends = dict.fromkeys((line[0], line[-1]))
        told = " to ".join(f"{say.ms(point.latency_us)}, {say.percent(point.accuracy)}" for point in ends)
        parts.append(f"{_words(method, precision)}: {told}")
    return f"Latency and {metric} accuracy of {len(points)} networks. {'; '.join(parts)}. Crosses are 95 % intervals."


def lines(points: Sequence[ClockPoint]) -> dict[tuple[str, Precision], list[ClockPoint]]:
    """The points of every method and precision, fastest first, in the order in which the methods appear."""
    found: dict[tuple[str, Precision], list[ClockPoint]] = {}
    for point in sorted(points, key=lambda point: point.precision != "fp32"):
        found.setdefault((point.method, point.precision), []).append(point)
    return {key: sorted(line, key=lambda point: point.latency_us) for key, line in found.items()}


def _styles(points: Sequence[ClockPoint]) -> dict[str, tuple[str, str, str]]:
    methods = [method for method in dict.fromkeys(point.method for point in points) if method != ORIGINAL]
    given = {method: _STYLES[number % len(_STYLES)] for number, method in enumerate(methods)}
    return {ORIGINAL: _ORIGINAL_STYLE, **given}


def _legend(points: Sequence[ClockPoint]) -> tuple[LegendEntry, ...]:
    styles, methods = _styles(points), dict.fromkeys(point.method for point in points)
    entries = [LegendEntry(styles[method][2], styles[method][0], method) for method in methods]
    if {point.precision for point in points} > {"fp32"}:
        entries += [
            LegendEntry("line", "ink", "fp32, filled"),
            LegendEntry("dashes", "ink", f"{_reduced(points)}, hollow"),
        ]
    return tuple(entries)


def _reduced(points: Sequence[ClockPoint]) -> str:
    return " and ".join(dict.fromkeys(point.precision for point in points if point.precision != "fp32"))


def _draw(
    figure: Figure,
    axes: Axes,
    points: Sequence[ClockPoint],
    metric: str,
    device: str,
    colours: Mapping[str, str],
) -> None:
    styles = _styles(points)
    names: list[Label] = []
    details: list[Label] = []
    strokes: list[tuple[Point, ...]] = []
    for (method, precision), line in lines(points).items():
        role, marker, _shape = styles[method]
        _draw_line(axes, line, colours[role], marker, colours["surface"])
        places = tuple(map(_place, line))
        strokes += [places, *(stroke for point in line for stroke in _crosses(point))]
        names.append(Label(_words(method, precision), places, colours[role], bold=True))
        details += [Label(one.label, (_place(one),), colours[role], 9, optional=True) for one in line if one.label]
    axes.set_xlabel(f"measured latency{f' on {device}' if device else ''} (ms)")
    axes.set_ylabel(f"{metric} on test images (%)")
    axes.margins(y=0.1)
    axes.set_xlim(0, 1.1 * max(point.latency_us for point in points) / 1e3)
    axes.locator_params(nbins=7)
    place(figure, axes, [*names, *details], list(map(_place, points)), strokes)


def _draw_line(axes: Axes, line: Sequence[ClockPoint], colour: str, marker: str, surface: str) -> None:
    """One method in one precision, its intervals thin behind it."""
    exact = line[0].precision == "fp32"
    for point in line:
        for stroke in _crosses(point):
            axes.plot(*zip(*stroke, strict=True), color=colour, lw=1.0, alpha=0.4)
    axes.plot(
        *zip(*map(_place, line), strict=True),
        marker=marker,
        color=colour,
        ms=7,
        mfc=colour if exact else surface,
        mec=colour,
        mew=1.4,
        lw=1.8,
        dashes=(None, None) if exact else (4, 2),
    )


def _crosses(point: ClockPoint) -> Iterator[tuple[Point, ...]]:
    """The intervals as strokes: (ms, %) of both ends."""
    x, y = _place(point)
    if point.latency_ci is not None:
        yield tuple((end / 1e3, y) for end in point.latency_ci)
    if point.accuracy_ci is not None:
        yield tuple((x, 100 * end) for end in point.accuracy_ci)


def _place(point: ClockPoint) -> Point:
    """Where a point is drawn: ms, %."""
    return point.latency_us / 1e3, 100 * point.accuracy


def _words(method: str, precision: str) -> str:
    return method if precision == "fp32" else f"{method}, {precision}"

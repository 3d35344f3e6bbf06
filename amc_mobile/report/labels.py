"""Words beside the points of a picture, placed where they cover neither each other nor the points nor the lines."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

Point = tuple[float, float]
_AROUND = ((1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1), (0, 1), (0, -1))  # right, left, corners, above, below
_DISTANCES = (8.0, 14.0, 22.0, 32.0, 46.0)  # from the point, in points of 1/72 inch, as all lengths here
_MARK = 6.0  # half the side of the square that a point's mark takes
_LEADER = 30.0  # from here on a thin line leads to the point
_ROOM = 1.5  # around every text
_MOST_OPTIONAL = 0.2  # the cost of a place that covers nothing and is near
_ALIGNMENT = {1: "left", 0: "center", -1: "right"}


@dataclass(frozen=True, slots=True)
class Label:
    """What is to be written near one of some points of the data, the first one preferred.

    An `optional` one is left out where there is no room.
    """

    text: str
    near: tuple[Point, ...]
    colour: str
    size: float = 11.0
    bold: bool = False
    optional: bool = False


@dataclass(frozen=True, slots=True)
class _Place:
    """One place for a text: its box in pixels, on which side of which point, and how bad it is."""

    box: Bbox
    side: int
    point: Point
    leader: bool
    cost: float


def place(
    figure: Figure, axes: Axes, labels: Sequence[Label], marks: Sequence[Point], lines: Sequence[Sequence[Point]]
) -> None:
    """Writes the labels into the axes, the first ones first, each at the best place near its points.

    Neither `marks` nor `lines` should be covered, both in data coordinates. Call it last: it lays the figure out.
    """
    figure.draw_without_rendering()
    axes.set_autoscale_on(False)
    crowd = _Crowd(axes, marks, lines, figure.dpi / 72)
    for label in labels:
        weight = "bold" if label.bold else "normal"
        text = axes.text(*label.near[0], label.text, color=label.colour, size=label.size, weight=weight)
        best = min(crowd.places(text, label.near), key=lambda one: one.cost)
        if label.optional and best.cost > _MOST_OPTIONAL:
            text.remove()
        else:
            crowd.take(text, best)


class _Crowd:
    """What stands in the axes already."""

    def __init__(self, axes: Axes, marks: Sequence[Point], lines: Sequence[Sequence[Point]], unit: float) -> None:
        """`unit` is the length of 1/72 inch in pixels."""
        self._axes, self._unit = axes, unit
        half = _MARK * unit
        centres = axes.transData.transform(np.reshape(marks, (-1, 2)))
        self._taken = [Bbox.from_extents(x - half, y - half, x + half, y + half) for x, y in centres]
        self._inked = np.concatenate([np.zeros((0, 2)), *(_dense(axes.transData.transform(line)) for line in lines)])
        self._inside = axes.get_window_extent()

    def places(self, text: Text, near: Sequence[Point]) -> Iterator[_Place]:
        """Every place around every point."""
        size = text.get_window_extent()
        width, height = size.width + 2 * _ROOM * self._unit, size.height
        for order, point in enumerate(near):
            x, y = self._axes.transData.transform(point)
            for distance in _DISTANCES:
                for right, up in _AROUND:
                    step = distance * self._unit / math.hypot(right, up)
                    left = x + right * step - width * (1 - right) / 2
                    box = Bbox.from_bounds(left, y + up * step - height * (1 - up) / 2, width, height)
                    cost = self._cost(box) + distance / 100 + order / 20
                    yield _Place(box, right, point, distance >= _LEADER, cost)

    def take(self, text: Text, best: _Place) -> None:
        """Moves the text there."""
        box, back = best.box, self._axes.transData.inverted()
        x = {1: box.x0, 0: (box.x0 + box.x1) / 2, -1: box.x1}[best.side]
        text.set(ha=_ALIGNMENT[best.side], va="center", position=back.transform((x, (box.y0 + box.y1) / 2)))
        self._taken.append(box)
        if best.leader:
            at = self._axes.transData.transform(best.point)
            end = back.transform((np.clip(at[0], box.x0, box.x1), np.clip(at[1], box.y0, box.y1)))
            self._axes.plot(*zip(best.point, end, strict=True), color=text.get_color(), lw=0.6)

    def _cost(self, box: Bbox) -> float:
        """How bad a place is: 10 for words or a mark that it covers, 3 for lines, more where it leaves the axes."""
        inside, (x, y) = self._inside, self._inked.T
        outside = max(inside.x0 - box.x0, box.x1 - inside.x1, inside.y0 - box.y0, box.y1 - inside.y1, 0.0)
        covered = sum(bool(box.overlaps(other)) for other in self._taken)
        crossed = bool(np.any((x > box.x0) & (x < box.x1) & (y > box.y0) & (y < box.y1)))
        return 10.0 * covered + 3.0 * crossed + (20.0 + outside if outside > 0 else 0.0)


def _dense(line: NDArray[np.float64]) -> NDArray[np.float64]:
    """A broken line as points that lie closer than a letter is high."""
    parts = [
        start + np.linspace(0.0, 1.0, 2 + int(np.hypot(*(end - start)) / 3))[:, None] * (end - start)
        for start, end in pairwise(line)
    ]
    return np.concatenate([np.zeros((0, 2)), *parts])

"""How much each group alone can lose: groups x a few widths, each evaluated with everything else unpruned.

The loss is the divergence from the original's outputs (KL, nats): of a few hundred images it is a far smoother measure
than their accuracy, and needs no labels. Single-group losses do not see how groups harm each other; that is what the
search itself is for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from amc_mobile.runs import write_json
from amc_mobile.search.budget import Walls, Widths, replaced
from amc_mobile.types import Score

SCHEMA = 1

Probe = Callable[[Widths, str], Score]  # (widths, what for) -> score


@dataclass(frozen=True, slots=True)
class Curve:
    """Loss of the network, in nats, when one group alone keeps `widths[i]` channels; the last width is all of them."""

    group: str
    widths: Widths
    losses: tuple[float, ...]

    def loss(self, width: int) -> float:
        """Interpolated between the measured widths; never higher for more channels."""
        monotone = np.maximum.accumulate(np.array(self.losses)[::-1])[::-1]
        return float(np.interp(width, self.widths, monotone))


def sample_widths(grid: Sequence[int], points: int) -> Widths:
    """Up to `points` widths of a grid, evenly spaced from the smallest on; without the last, which is no pruning.

    >>> sample_widths((8, 16, 24, 32, 40, 48, 56, 64), 3)
    (8, 24, 48)
    """
    places = np.linspace(0, len(grid) - 1, min(points, len(grid) - 1) + 1)[:-1]
    return tuple(grid[round(place)] for place in places)


def evaluations(walls: Walls, points: int) -> int:
    """How many evaluations `measure` needs from scratch."""
    return sum(len(sample_widths(grid, points)) for grid in walls.grids)


def measure(walls: Walls, probe: Probe, points: int) -> tuple[Curve, ...]:
    """One curve per prunable group, from `evaluations(walls, points)` probes."""
    curves = []
    for step, group in enumerate(walls.groups):
        widths, losses = sample_widths(walls.grids[step], points), []
        for width in widths:
            alone = replaced(walls.channels, step, width)
            losses.append(probe(alone, f"sensitivity of {group.name} at {width} channels").kl)
        curves.append(Curve(group.name, (*widths, walls.channels[step]), (*losses, 0.0)))
    return tuple(curves)


def save(path: Path, curves: Sequence[Curve]) -> None:
    """Writes the curves as JSON, for the report. Raises: RunFolderError."""
    measured = sum(len(curve.widths) - 1 for curve in curves)
    write_json(path, {"schema": SCHEMA, "loss": "kl, nats", "evaluations": measured, "groups": curves})

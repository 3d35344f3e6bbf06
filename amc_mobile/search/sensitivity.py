"""How much each group alone can lose: groups x a few widths, each evaluated with everything else unpruned.

The loss is the divergence from the original's outputs (KL, nats): of a few hundred images it is a far smoother measure
than their accuracy, and needs no labels. Single-group losses do not see how groups harm each other; that is what the
search itself is for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from amc_mobile.device.protocol import Progress
from amc_mobile.runs import read_json, write_json
from amc_mobile.search.budget import Walls, Widths
from amc_mobile.search.evaluator import PolicyEvaluator

SCHEMA = 1


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


def measure(
    walls: Walls, evaluator: PolicyEvaluator, points: int, path: Path, progress: Progress | None = None
) -> tuple[Curve, ...]:
    """One curve per prunable group. Those that `path` already holds are not measured again; new ones are added."""
    curves = _load(path, walls, points) if path.exists() else []
    done, total = sum(len(curve.widths) - 1 for curve in curves), evaluations(walls, points)
    for step in range(len(curves), len(walls.groups)):
        widths, losses = sample_widths(walls.grids[step], points), []
        for width in widths:
            if progress:
                progress(done, total, f"sensitivity of {walls.groups[step].name} at {width} channels")
            alone = [*walls.channels[:step], width, *walls.channels[step + 1 :]]
            losses.append(evaluator.evaluate(walls.policy(alone)).kl)
            done += 1
        curves.append(Curve(walls.groups[step].name, (*widths, walls.channels[step]), (*losses, 0.0)))
        write_json(path, {"schema": SCHEMA, "loss": "kl, nats", "evaluations": done, "groups": curves})
    return tuple(curves)


def _load(path: Path, walls: Walls, points: int) -> list[Curve]:
    """The curves of a file, as far as they are about these groups and widths."""
    stored: dict[str, Any] = read_json(path)
    curves: list[Curve] = []
    for entry, group, grid in zip(stored.get("groups", []), walls.groups, walls.grids, strict=False):
        if entry["group"] != group.name or tuple(entry["widths"]) != (*sample_widths(grid, points), group.channels):
            break
        curves.append(Curve(group.name, tuple(entry["widths"]), tuple(entry["losses"])))
    return curves

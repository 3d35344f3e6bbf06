"""Descends from the best policy so far: a sequence of knapsacks whose losses are measured where it stands.

What a group loses alone, in the whole network, says little about what it loses in a network that is pruned everywhere.
So each round probes the best policy with one group after the other a little narrower, and scales every group's curve
(sensitivity.py) until it has the slope that was found. The knapsack over the scaled curves, confined to a
neighbourhood, is the next policy; the neighbourhood widens when the larger one of two was better and shrinks when
neither was: a trust region method (Conn, Gould and Toint 2000) with finite differences as its gradient. Not in the
paper.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from amc_mobile.search.budget import Walls, Widths, replaced
from amc_mobile.search.knapsack import Losses, least_loss
from amc_mobile.search.problem import Problem
from amc_mobile.trials import Trial
from amc_mobile.types import Score

AGENT = "guided"

_REACH, _LEAST_REACH, _WIDEST_REACH = 0.2, 0.04, 0.6  # of a width
_PROBE = 8  # a probe moves a group by a step of the grid per this many widths that the grid has
_LEAST_SCALE, _LARGEST_SCALE = 0.05, 20.0  # of the groups' median
_PATIENCE = 2  # rounds without a better policy


def rounds(walls: Walls) -> int:
    """Probes and trials of one round."""
    return len(walls.groups) + 2


def descend(problem: Problem, evaluations: int | None = None) -> None:
    """Rounds of probing and descending until nothing gets better, or so many evaluations more are spent."""
    reach, idle, begun = _REACH, 0, problem.spent
    while idle < _PATIENCE and reach >= _LEAST_REACH:
        if evaluations is not None and problem.spent - begun + rounds(problem.walls) > evaluations:
            return
        centre = problem.best()
        losses = local_losses(problem, problem.widths(centre))
        won = _try(problem, centre, losses, reach)
        idle = idle + 1 if won is None else 0
        reach = min(reach * {True: 1.5, False: 0.7, None: 0.4}[won], _WIDEST_REACH)


def _try(problem: Problem, centre: Trial, losses: Losses, reach: float) -> bool | None:
    """Evaluates the knapsacks of two neighbourhoods. True: the wider one won; False: the narrower; None: neither."""
    start, known = problem.widths(centre), {trial.kept for trial in problem.trials}
    walls = problem.goal.beyond(problem.walls, problem.walls.cost(start))
    tried = {}
    for radius in (reach, reach / 2):
        widths = least_loss(walls, losses, start, radius)
        kept = problem.walls.policy(widths).kept
        if kept not in known:
            known.add(kept)
            tried[radius] = problem.evaluate(AGENT, "model", widths)
    best = problem.best()
    return None if best is centre else best is tried.get(reach)


def local_losses(problem: Problem, centre: Widths) -> Losses:
    """Every group's loss at each of its widths, with the slope that it has at `centre`: one probe per group."""
    walls, here = problem.walls, problem.probe(centre, f"{AGENT}: the best so far")
    shapes = [
        np.array([curve.loss(width) for width in grid])
        for curve, grid in zip(problem.curves(), walls.grids, strict=True)
    ]
    scales = np.array([_scale(problem, centre, step, shapes[step], here) for step in range(len(walls.groups))])
    usual = float(np.median(scales[scales > 0])) if (scales > 0).any() else 1.0
    bounded = np.clip(scales, _LEAST_SCALE * usual, _LARGEST_SCALE * usual)
    return [scale * shape for scale, shape in zip(bounded, shapes, strict=True)]


def _scale(problem: Problem, centre: Widths, step: int, shape: NDArray[np.float64], here: Score) -> float:
    """By how much more (or less) a group loses here than alone in the whole network."""
    grid = problem.walls.grids[step]
    at = grid.index(centre[step])
    stride = max(1, round(len(grid) / _PROBE))
    beside = max(at - stride, 0) if at else min(at + stride, len(grid) - 1)
    moved = replaced(centre, step, grid[beside])
    found = problem.probe(moved, f"{AGENT}: slope of {problem.walls.groups[step].name}").kl - here.kl
    alone = float(shape[beside] - shape[at])
    return found / alone if abs(alone) > 1e-9 else 0.0

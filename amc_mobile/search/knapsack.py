"""The widths with the least sum of losses under a budget: a multiple-choice knapsack, solved by dynamic programming.

Each group has a loss at each of its widths, and losses add up. A layer's cost depends on two groups, though, so costs
are taken group by group around the last solution, and the knapsack is solved again until nothing changes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from amc_mobile.search.budget import Walls, Widths, replaced

Losses = Sequence[NDArray[np.float64]]  # for every group the loss at each width of its grid

_BINS = 2000  # of what has to be saved
_ROUNDS = 8  # of taking the costs around the last solution


def least_loss(walls: Walls, losses: Losses, start: Widths, reach: float = np.inf) -> Widths:
    """The widths on the budget whose losses have the least sum; the best of all rounds.

    `reach` confines every width to (1 ± reach) times that of `start`; one step of the grid is always allowed. Bringing
    the solution onto the budget may go beyond.
    """
    allowed = [_within(grid, width, reach) for grid, width in zip(walls.grids, start, strict=True)]
    widths, found = start, list[Widths]()
    for _ in range(_ROUNDS):
        here = walls.cost(widths)
        saved = [
            np.array([here - walls.cost(replaced(widths, step, grid[place])) for place in places])
            for step, (grid, places) in enumerate(zip(walls.grids, allowed, strict=True))
        ]
        chosen = choose([loss[places] for loss, places in zip(losses, allowed, strict=True)], saved, here - walls.limit)
        widths = tuple(grid[places[pick]] for grid, places, pick in zip(walls.grids, allowed, chosen, strict=True))
        if widths in found:
            break
        found.append(widths)
    landed = [_land(walls, losses, widths) for widths in found]
    return min(landed, key=lambda widths: loss_of(walls, losses, widths))


def loss_of(walls: Walls, losses: Losses, widths: Widths) -> float:
    """The sum of the groups' losses at these widths."""
    return float(sum(loss[grid.index(width)] for loss, grid, width in zip(losses, walls.grids, widths, strict=True)))


def choose(losses: Losses, saved: Losses, to_save: float) -> list[int]:
    """One choice per group, as its index, with the least sum of losses that saves at least `to_save` in sum.

    `losses[g][i]` and `saved[g][i]` belong to choice i of group g. Savings are counted in bins, rounded down; where
    nothing saves enough, every group takes the choice that saves most.

    >>> choose([np.array([2.0, 0.0]), np.array([1.0, 0.0])], [np.array([5.0, 0.0]), np.array([5.0, 0.0])], 5.0)
    [1, 0]
    """
    floors = [float(values.min()) for values in saved]
    beyond = to_save - sum(floors)  # to be saved beyond what the least saving choices do
    if beyond <= 0:
        return [int(loss.argmin()) for loss in losses]
    bins = [
        np.minimum((values - floor) / beyond * _BINS + 1e-9, _BINS).astype(np.int64)
        for values, floor in zip(saved, floors, strict=True)
    ]
    least = np.full(_BINS + 1, np.inf)  # least[b]: loss of the groups behind, which must save b bins or more
    least[0] = 0.0
    picks = []
    for loss, sizes in zip(reversed(losses), reversed(bins), strict=True):
        total = loss[:, None] + least[np.maximum(np.arange(_BINS + 1) - sizes[:, None], 0)]  # (choices, bins)
        picks.append(total.argmin(axis=0))
        least = total.min(axis=0)
    if not np.isfinite(least[_BINS]):
        return [int(values.argmax()) for values in saved]
    chosen, missing = [], _BINS
    for pick, sizes in zip(reversed(picks), bins, strict=True):
        chosen.append(int(pick[missing]))
        missing = max(missing - int(sizes[chosen[-1]]), 0)
    return chosen


def _within(grid: Widths, width: int, reach: float) -> NDArray[np.int64]:
    """The places of a grid that lie within reach of a width, and the next ones on both sides."""
    place = grid.index(width)
    near = [abs(other - width) <= reach * width for other in grid]
    near[max(place - 1, 0) : place + 2] = [True] * len(near[max(place - 1, 0) : place + 2])
    return np.flatnonzero(near)


def _land(walls: Walls, losses: Losses, widths: Widths) -> Widths:
    """The widths brought onto the budget: scaled if they exceed it, what is left spent where it helps most."""

    def gain(step: int, width: int) -> float:
        place = walls.grids[step].index(width)
        return float(losses[step][place - 1] - losses[step][place])

    return walls.fill(widths if walls.cost(widths) <= walls.limit else walls.project(widths), gain)

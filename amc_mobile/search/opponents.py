"""Policies that need no learning, on the same budget and grid: what the agent has to beat, and where it may start.

uniform      one keep ratio for all groups
shallow      shallow groups are pruned more (He et al. 2018, fig. 3), deep: deep groups are
random       keep ratios drawn at random
sensitivity  each group is pruned until it alone would lose a common threshold (as FastNAS does), found by bisection
greedy       the width step with the smallest estimated loss per cost saved, again and again, until the budget holds
knapsack     the widths with the least sum of the losses that the groups have alone, by dynamic programming

The last three know the sensitivities of the groups, each alone; what groups do to each other they cannot know.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

import numpy as np

from amc_mobile.search.budget import Walls, Widths, replaced
from amc_mobile.search.knapsack import least_loss, loss_of
from amc_mobile.search.sensitivity import Curve
from amc_mobile.search.state import touched_layers
from amc_mobile.sections.search import AgentName

Maker = Callable[[Walls], Widths]  # a policy on the budget of these walls


def by_shape() -> dict[AgentName, Maker]:
    """The opponents that know nothing about the network's accuracy."""
    return {
        "uniform": uniform,
        "shallow": lambda walls: ramp(walls, 0.5, 1.0),
        "deep": lambda walls: ramp(walls, 1.0, 0.5),
    }


def by_sensitivity(curves: Sequence[Curve]) -> dict[AgentName, Maker]:
    """The opponents that know what each group loses alone."""
    return {
        "sensitivity": lambda walls: by_threshold(walls, curves),
        "greedy": lambda walls: greedy(walls, curves),
        "knapsack": lambda walls: knapsack(walls, curves),
    }


def uniform(walls: Walls) -> Widths:
    """One keep ratio for every group."""
    return walls.project(walls.channels)


def ramp(walls: Walls, first: float, last: float) -> Widths:
    """Keep ratios on a line from the first to the last group, scaled onto the budget."""
    ratios = np.linspace(first, last, len(walls.groups))
    return walls.project([ratio * full for ratio, full in zip(ratios, walls.channels, strict=True)])


def drawn(walls: Walls, rng: np.random.Generator) -> Widths:
    """Keep ratios drawn evenly between each group's smallest and 1, scaled onto the budget."""
    low = np.array(walls.smallest) / walls.channels
    ratios = rng.uniform(low, 1.0)
    return walls.project(list(ratios * walls.channels))


def by_threshold(walls: Walls, curves: Sequence[Curve]) -> Widths:
    """The smallest common loss per group at which the budget holds; what is left is spent where it helps most."""
    losses = [[curve.loss(width) for width in grid] for curve, grid in zip(curves, walls.grids, strict=True)]

    def widths_at(threshold: float) -> Widths:
        return tuple(
            next(width for width, loss in zip(grid, row, strict=True) if loss <= threshold)
            for grid, row in zip(walls.grids, losses, strict=True)
        )

    thresholds = sorted({loss for row in losses for loss in row})
    first = bisect_left(thresholds, True, key=lambda threshold: walls.cost(widths_at(threshold)) <= walls.limit)
    return _spend(walls, curves, widths_at(thresholds[first]))


def greedy(walls: Walls, curves: Sequence[Curve]) -> Widths:
    """Steps down from the unpruned network, the cheapest loss for the cost saved first, until the budget holds."""
    widths, offers = list(walls.channels), dict.fromkeys(range(len(walls.groups)), (0.0, 0))
    stale, near = set(offers), _neighbours(walls)
    while (cost := walls.cost(widths)) > walls.limit:
        for step in stale:
            offers[step] = _next_step(walls, curves[step], widths, step, cost)
        best = min((step for step in offers if widths[step] > walls.smallest[step]), key=lambda step: offers[step][0])
        widths[best] = offers[best][1]
        stale = near[best]  # only groups that share a layer with it save another amount now
    return _spend(walls, curves, widths)


def knapsack(walls: Walls, curves: Sequence[Curve]) -> Widths:
    """The least sum of single losses within the budget, by dynamic programming from the greedy solution."""
    losses = [np.array([curve.loss(width) for width in grid]) for curve, grid in zip(curves, walls.grids, strict=True)]
    start = greedy(walls, curves)
    return min(least_loss(walls, losses, start), start, key=lambda widths: loss_of(walls, losses, widths))


def _next_step(walls: Walls, curve: Curve, widths: Sequence[int], step: int, cost: float) -> tuple[float, int]:
    """Loss per cost saved, and width, of a group's next narrower width that saves anything; infinite at the end."""
    here = curve.loss(widths[step])
    for width in reversed([width for width in walls.grids[step] if width < widths[step]]):
        saved = cost - walls.cost(replaced(widths, step, width))
        if saved > 0:
            return (curve.loss(width) - here) / saved, width
    return float("inf"), walls.smallest[step]


def _neighbours(walls: Walls) -> list[set[int]]:
    """For each group the groups (itself included) that share a layer with it."""
    layers = [{layer.name for layer in touched_layers(walls.network, group)} for group in walls.groups]
    return [{other for other, theirs in enumerate(layers) if theirs & mine} for mine in layers]


def _spend(walls: Walls, curves: Sequence[Curve], widths: Sequence[int]) -> Widths:
    """Raises widths while the budget holds, the largest gain by the curves first."""

    def gain(step: int, width: int) -> float:
        grid = walls.grids[step]
        return curves[step].loss(grid[grid.index(width) - 1]) - curves[step].loss(width)

    return walls.fill(widths, gain)

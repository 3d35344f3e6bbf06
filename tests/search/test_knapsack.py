"""The dynamic programme against trying everything, and the policies that are made of it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from amc_mobile.search import knapsack, opponents
from amc_mobile.search.budget import Walls
from amc_mobile.search.knapsack import Losses, choose, least_loss, loss_of

from .networks import chain, macs, residual
from .test_opponents import fake_curves

Rows = list[NDArray[np.float64]]


@st.composite
def choices(draw: st.DrawFn) -> tuple[Rows, Rows, float]:
    """Losses and savings of up to five groups with up to five choices, and what to save: all, some, or too much."""
    sizes = draw(st.lists(st.integers(1, 5), min_size=1, max_size=5))
    losses = [np.array(draw(st.lists(st.floats(0, 10), min_size=n, max_size=n))) for n in sizes]
    saved = [np.array(draw(st.lists(st.integers(-50, 1000), min_size=n, max_size=n)), float) for n in sizes]
    most = sum(row.max() for row in saved)
    return losses, saved, draw(st.floats(-100, 1.2)) * max(most, 1.0)


def total(rows: Losses, picks: tuple[int, ...] | list[int]) -> float:
    return float(sum(row[pick] for row, pick in zip(rows, picks, strict=True)))


@given(choices())
@settings(max_examples=300)
def test_it_is_as_good_as_trying_everything(case: tuple[Rows, Rows, float]) -> None:
    """Savings are rounded down to bins: nobody who saves that much more may be better."""
    losses, saved, to_save = case
    chosen = choose(losses, saved, to_save)
    every = list(itertools.product(*(range(len(row)) for row in losses)))
    if max(total(saved, picks) for picks in every) < to_save:
        assert chosen == [int(row.argmax()) for row in saved]
        return
    assert total(saved, chosen) >= to_save - 1e-6
    bins = len(losses) * max(to_save - sum(row.min() for row in saved), 0.0) / knapsack._BINS
    rivals = [total(losses, picks) for picks in every if total(saved, picks) >= to_save + bins]
    assert total(losses, chosen) <= min(rivals, default=np.inf) + 1e-9


def walls_of(channels: list[int], share: float, *, plain: bool = True) -> Walls:
    graph = chain(channels) if plain else residual(48, channels)
    cost = macs(graph)
    return Walls(graph, cost, share * cost(graph.full().kept), 0.2, 8)


def losses_of(walls: Walls, weights: list[float]) -> Rows:
    curves = fake_curves(walls, weights)
    return [np.array([curve.loss(width) for width in grid]) for curve, grid in zip(curves, walls.grids, strict=True)]


@given(st.lists(st.integers(8, 160), min_size=2, max_size=7), st.booleans(), st.floats(0.45, 1.0), st.integers(0, 99))
@settings(max_examples=30)
def test_the_modelled_loss_is_never_worse_than_the_greedy_ones(
    channels: list[int], plain: bool, share: float, seed: int
) -> None:
    walls = walls_of(channels, share, plain=plain)
    weights = list(np.random.default_rng(seed).uniform(0.2, 2.0, len(walls.groups)))
    losses, curves = losses_of(walls, weights), fake_curves(walls, weights)
    start = opponents.greedy(walls, curves)
    solved = opponents.knapsack(walls, curves)
    assert walls.holds(solved)
    assert walls.holds(least_loss(walls, losses, start))
    assert loss_of(walls, losses, solved) <= loss_of(walls, losses, start) + 1e-12


def test_it_is_near_the_best_of_all_policies_and_nearer_than_greedy() -> None:
    """Costs of neighbours multiply, so that an exact knapsack around a solution is not exact; mean over 12 networks."""
    rng, greedy, solved = np.random.default_rng(0), [], []
    for _ in range(12):
        walls = walls_of([int(width) for width in rng.choice([16, 32, 64], 4)], rng.uniform(0.4, 0.7))
        weights = list(rng.uniform(0.5, 2.0, 4))
        losses, curves = losses_of(walls, weights), fake_curves(walls, weights)
        legal = (widths for widths in itertools.product(*walls.grids) if walls.cost(widths) <= walls.limit)
        best = min(loss_of(walls, losses, widths) for widths in legal)
        greedy.append(loss_of(walls, losses, opponents.greedy(walls, curves)) / best)
        solved.append(loss_of(walls, losses, opponents.knapsack(walls, curves)) / best)
    assert np.mean(solved) < 1.03
    assert np.mean(solved) < np.mean(greedy)


@pytest.mark.parametrize("reach", [0.05, 0.2])
def test_a_neighbourhood_confines_it(reach: float) -> None:
    """No group is cut by more than the reach, or one step. What is left of the budget is spent where it helps."""
    walls = walls_of([160, 96, 160, 128, 96], 0.5)
    losses, start = losses_of(walls, [3.0, 0.1, 1.0, 0.3, 4.0]), opponents.uniform(walls)
    near, free = least_loss(walls, losses, start, reach), least_loss(walls, losses, start)
    for before, after, grid in zip(start, near, walls.grids, strict=True):
        assert grid.index(before) - grid.index(after) <= 1 or before - after <= reach * before
    assert loss_of(walls, losses, free) < loss_of(walls, losses, near) < loss_of(walls, losses, start)
    assert walls.holds(near)

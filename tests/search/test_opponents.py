"""Opponents keep the budget like everybody, and those that know the sensitivities use them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amc_mobile.cost.price import price
from amc_mobile.runs import read_json
from amc_mobile.search import opponents, sensitivity
from amc_mobile.search.budget import Walls, Widths, build_walls
from amc_mobile.search.opponents import Maker
from amc_mobile.search.sensitivity import Curve, sample_widths
from amc_mobile.sections.search import AgentName, SearchConfig
from amc_mobile.types import Budget, NetworkGraph, Score

from .networks import Separable, chain, macs, residual

WEIGHTS = [3.0, 0.1, 1.0, 0.3, 4.0]


def walls_of(graph: NetworkGraph, share: float = 0.5) -> Walls:
    cost = macs(graph)
    return Walls(graph, cost, share * cost(graph.full().kept), 0.2, 8)


def fake_curves(walls: Walls, weights: list[float]) -> tuple[Curve, ...]:
    """What `measure` would find for `Separable`."""
    return tuple(
        Curve(group.name, grid, tuple(weight * (1 - width / grid[-1]) ** 2 for width in grid))
        for group, grid, weight in zip(walls.groups, walls.grids, weights, strict=True)
    )


def makers_of(walls: Walls, weights: list[float]) -> dict[AgentName, Maker]:
    return {**opponents.by_shape(), **opponents.by_sensitivity(fake_curves(walls, weights))}


@given(st.lists(st.integers(8, 90), min_size=1, max_size=5), st.booleans(), st.floats(0.55, 1.0), st.integers(0, 99))
@settings(max_examples=40)
def test_every_opponent_keeps_the_budget(widths: list[int], plain: bool, share: float, seed: int) -> None:
    walls, rng = walls_of(chain(widths) if plain else residual(24, widths), share), np.random.default_rng(seed)
    makers = makers_of(walls, list(rng.exponential(size=len(walls.groups))))
    assert list(makers) == ["uniform", "shallow", "deep", "sensitivity", "greedy", "knapsack"]
    assert all(walls.holds(maker(walls)) for maker in makers.values())
    assert walls.holds(opponents.drawn(walls, rng))


@given(st.integers(0, 99))
@settings(max_examples=10)
def test_every_opponent_keeps_several_budgets(seed: int) -> None:
    """MACs and parameters at once: shallow groups are dear in one, deep ones in the other."""
    graph, rng = chain([32, 48, 64, 96, 128]), np.random.default_rng(seed)
    limits = [Budget("macs", 0.5 * price(graph, graph.full()).macs), Budget("params", 2e5 * rng.uniform(0.4, 0.9))]
    walls = build_walls(graph, limits, {}, SearchConfig())
    for maker in makers_of(walls, list(rng.exponential(size=5))).values():
        widths = maker(walls)
        cost = price(graph, walls.policy(widths))
        assert walls.holds(widths)
        assert cost.macs <= limits[0].limit
        assert cost.params <= limits[1].limit


def test_uniform_keeps_one_ratio() -> None:
    walls = walls_of(chain([128, 256, 512, 256]))
    ratios = [width / full for width, full in zip(opponents.uniform(walls), walls.channels, strict=True)]
    assert max(ratios) - min(ratios) <= 8 / 128  # a step of the coarsest grid
    assert walls.cost(opponents.uniform(walls)) >= walls.floor


def test_shallow_and_deep_lean_to_their_sides() -> None:
    walls = walls_of(chain([64] * 6))
    proposals = {name: maker(walls) for name, maker in opponents.by_shape().items()}
    assert all(a <= b for a, b in pairwise(proposals["shallow"]))
    assert all(a >= b for a, b in pairwise(proposals["deep"]))
    assert proposals["shallow"][0] < proposals["shallow"][-1]
    assert proposals["deep"][0] > proposals["deep"][-1]


def test_random_policies_differ_and_repeat_with_the_seed() -> None:
    walls = walls_of(chain([64] * 5))

    def four(seed: int) -> list[Widths]:
        rng = np.random.default_rng(seed)
        return [opponents.drawn(walls, rng) for _ in range(4)]

    assert four(0) == four(0) != four(1)
    assert len(set(four(0))) == 4


@pytest.mark.parametrize("propose", [opponents.by_threshold, opponents.greedy, opponents.knapsack])
def test_sensitivities_are_worth_something(propose: Callable[[Walls, tuple[Curve, ...]], Widths]) -> None:
    walls = walls_of(chain([32, 64, 64, 128, 128]))
    evaluator = Separable(walls.network, WEIGHTS)

    def loss(widths: Widths) -> float:
        return evaluator.evaluate(walls.policy(widths)).kl

    informed = propose(walls, fake_curves(walls, WEIGHTS))
    assert loss(informed) < 0.7 * loss(opponents.uniform(walls))


def test_the_threshold_is_common_to_all_groups() -> None:
    walls = walls_of(chain([128, 128, 128]))
    equal = opponents.by_threshold(walls, fake_curves(walls, [2.0, 2.0, 2.0]))
    assert max(equal) - min(equal) <= 16  # a step of the grid, and one of spending the rest
    unequal = opponents.by_threshold(walls, fake_curves(walls, [1.0, 4.0, 16.0]))
    assert unequal[0] < unequal[1] < unequal[2]


def test_greedy_steps_over_stairs() -> None:
    """Where one step saves nothing, it looks for the next width that does, and ends."""
    graph = chain([64, 64])
    exact = macs(graph)
    walls = Walls(graph, lambda kept: exact([-(-k // 32) * 32 for k in kept]), 0.6 * exact([32, 64, 64, 32]), 0.1, 8)
    assert walls.holds(opponents.greedy(walls, fake_curves(walls, [1.0, 1.0])))


def test_samples_span_the_grid() -> None:
    assert sample_widths((8, 16, 24, 32, 40, 48, 56, 64), 5) == (8, 16, 32, 40, 56)
    assert sample_widths((5, 6, 7), 5) == (5, 6)
    assert sample_widths((64,), 5) == ()


def test_a_curve_never_rewards_pruning() -> None:
    curve = Curve("g", (8, 16, 24, 32), (0.5, 0.1, 0.3, 0.0))
    assert [curve.loss(width) for width in (8, 12, 16, 20, 24, 32)] == pytest.approx([0.5, 0.4, 0.3, 0.3, 0.3, 0.0])


def test_sensitivities_are_those_of_each_group_alone(tmp_path: Path) -> None:
    walls, told = walls_of(chain([32, 64, 64, 128, 128])), list[str]()
    evaluator = Separable(walls.network, WEIGHTS)

    def probe(widths: Widths, what: str) -> Score:
        told.append(what)
        return evaluator.evaluate(walls.policy(widths))

    curves = sensitivity.measure(walls, probe, 5)
    assert len(told) == sensitivity.evaluations(walls, 5) == sum(len(curve.widths) - 1 for curve in curves)
    assert told[0] == "sensitivity of group1 at 8 channels"
    for curve, group, weight in zip(curves, walls.groups, WEIGHTS, strict=True):
        expected = [weight * (1 - width / group.channels) ** 2 for width in curve.widths]
        assert curve.losses == pytest.approx(expected)
        assert curve.widths[-1] == group.channels
    sensitivity.save(tmp_path / "sensitivity.json", curves)
    stored = read_json(tmp_path / "sensitivity.json")
    assert stored["evaluations"] == len(told)
    assert [group["losses"] for group in stored["groups"]] == [list(curve.losses) for curve in curves]

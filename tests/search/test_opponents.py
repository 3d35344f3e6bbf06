"""Opponents keep the budget like everybody, and those that know the sensitivities use them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amc_mobile.runs import read_json
from amc_mobile.search import opponents, sensitivity
from amc_mobile.search.budget import Walls, Widths
from amc_mobile.search.sensitivity import Curve, sample_widths
from amc_mobile.types import NetworkGraph, Policy, Score

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


@given(st.lists(st.integers(8, 90), min_size=1, max_size=5), st.booleans(), st.floats(0.55, 1.0), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_every_opponent_keeps_the_budget(widths: list[int], plain: bool, share: float, seed: int) -> None:
    walls = walls_of(chain(widths) if plain else residual(24, widths), share)
    weights = list(np.random.default_rng(seed).exponential(size=len(walls.groups)))
    proposals = opponents.without_evaluations(walls, 3, seed)
    proposals += opponents.from_sensitivities(walls, fake_curves(walls, weights))
    assert [proposal.agent for proposal in proposals] == [
        *("uniform", "shallow", "deep"), *("random",) * 3, *("sensitivity", "greedy"),
    ]  # fmt: skip
    assert len({proposal.agent for proposal in proposals} - {"random"}) == opponents.NAMED
    assert all(walls.holds(proposal.widths) for proposal in proposals)


def test_uniform_keeps_one_ratio() -> None:
    walls = walls_of(chain([128, 256, 512, 256]))
    ratios = [width / full for width, full in zip(opponents.uniform(walls), walls.channels, strict=True)]
    assert max(ratios) - min(ratios) <= 8 / 128  # a step of the coarsest grid
    assert walls.cost(opponents.uniform(walls)) >= walls.floor


def test_shallow_and_deep_lean_to_their_sides() -> None:
    walls = walls_of(chain([64] * 6))
    proposals = {p.agent: p.widths for p in opponents.without_evaluations(walls, 0, 0)}
    assert all(a <= b for a, b in pairwise(proposals["shallow"]))
    assert all(a >= b for a, b in pairwise(proposals["deep"]))
    assert proposals["shallow"][0] < proposals["shallow"][-1]


def test_random_policies_differ_and_repeat_with_the_seed() -> None:
    walls = walls_of(chain([64] * 5))
    first, again, other = (opponents.without_evaluations(walls, 4, seed)[3:] for seed in (0, 0, 1))
    assert first == again != other
    assert len({proposal.widths for proposal in first}) == 4


@pytest.mark.parametrize("propose", [opponents.by_threshold, opponents.greedy])
def test_sensitivities_are_worth_something(propose: object) -> None:
    walls = walls_of(chain([32, 64, 64, 128, 128]))
    evaluator = Separable(walls.network, WEIGHTS)

    def loss(widths: Widths) -> float:
        return evaluator.evaluate(walls.policy(widths)).kl

    informed = propose(walls, fake_curves(walls, WEIGHTS))  # type: ignore[operator]
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


class Interrupted(Separable):
    """Stops like Ctrl-C at a given evaluation."""

    def __init__(self, graph: NetworkGraph, stop_at: int) -> None:
        super().__init__(graph, WEIGHTS)
        self.stop_at = stop_at

    def evaluate(self, policy: Policy) -> Score:
        if self.calls == self.stop_at:
            raise KeyboardInterrupt
        return super().evaluate(policy)


def test_measured_sensitivities_are_not_measured_again(tmp_path: Path) -> None:
    walls = walls_of(chain([32, 64, 64, 128, 128]))
    path, whole = tmp_path / "sensitivity.json", Separable(walls.network, WEIGHTS)
    told: list[tuple[int, int]] = []
    expected = sensitivity.measure(walls, whole, 5, tmp_path / "whole.json", lambda d, t, _: told.append((d, t)))
    assert whole.calls == sensitivity.evaluations(walls, 5) == read_json(tmp_path / "whole.json")["evaluations"]
    assert told == [(done, whole.calls) for done in range(whole.calls)]
    with pytest.raises(KeyboardInterrupt):
        sensitivity.measure(walls, Interrupted(walls.network, 12), 5, path)
    rest = Separable(walls.network, WEIGHTS)
    assert sensitivity.measure(walls, rest, 5, path) == expected
    assert rest.calls == whole.calls - 10  # two whole groups were in the file
    assert path.read_bytes() == (tmp_path / "whole.json").read_bytes()


def test_sensitivities_are_those_of_each_group_alone(tmp_path: Path) -> None:
    walls = walls_of(chain([32, 64, 64, 128, 128]))
    curves = sensitivity.measure(walls, Separable(walls.network, WEIGHTS), 5, tmp_path / "sensitivity.json")
    for curve, group, weight in zip(curves, walls.groups, WEIGHTS, strict=True):
        expected = [weight * (1 - width / group.channels) ** 2 for width in curve.widths]
        assert curve.losses == pytest.approx(expected)
        assert curve.widths[-1] == group.channels

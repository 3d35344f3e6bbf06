"""The guided descent measures slopes where it stands, and improves on what single sensitivities can know."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amc_mobile.search import guided, opponents
from amc_mobile.search.budget import Walls
from amc_mobile.search.problem import Problem
from amc_mobile.types import Policy

from .networks import Conv, Coupled, Separable, macs, network
from .searches import Counting, config_of, problem_of

CONFIG = config_of("auto", sensitivity_points=99)  # every width of every group


class Chained(Separable):
    """Every group harms the next one."""

    def loss(self, policy: Policy) -> float:
        terms = self._terms(policy)
        return sum(terms) + sum(2 * math.sqrt(a * b) for a, b in pairwise(terms))


def walls_of(channels: int, share: float = 0.5) -> Walls:
    graph = network([3, *[channels] * 12, 10], [Conv(group, group + 1) for group in range(13)])
    return Walls(graph, macs(graph), share * macs(graph)(graph.full().kept), 0.2, 8)


def weights_of(seed: int) -> list[float]:
    return list(np.random.default_rng(seed).exponential(size=12))


def begun(walls: Walls, evaluator: Separable | Counting, root: Path) -> Problem:
    """A search that has met the greedy opponent and the knapsack, at the price of the sensitivities."""
    problem = problem_of(walls, evaluator, root, CONFIG)
    for name, maker in list(opponents.by_sensitivity(problem.curves()).items())[1:]:
        problem.evaluate(name, "opponent", maker(walls))
    return problem


@pytest.mark.parametrize("evaluator", [Coupled, Chained])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_improves_on_greedy_and_knapsack(evaluator: type[Separable], seed: int, tmp_path: Path) -> None:
    walls = walls_of(96)
    problem = begun(walls, evaluator(walls.network, weights_of(seed)), tmp_path)
    before, spent = problem.best(), problem.spent
    guided.descend(problem)
    assert problem.best().reward > 0.9 * before.reward  # minus the divergence: at least 10 % less of it
    assert problem.spent - spent < 12 * guided.rounds(walls)
    assert all(walls.holds(problem.widths(trial)) for trial in problem.trials)
    assert len({trial.kept for trial in problem.trials if trial.agent == "guided"}) == sum(
        trial.agent == "guided" for trial in problem.trials
    )


def test_it_goes_on_as_long_as_something_gets_better(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A round in which the smaller of the two neighbourhoods was the better one is no idle round."""
    walls, won, really = walls_of(96), list[bool | None](), guided._try

    def noted(*arguments: Any) -> bool | None:
        won.append(really(*arguments))
        return won[-1]

    monkeypatch.setattr(guided, "_try", noted)
    guided.descend(begun(walls, Chained(walls.network, weights_of(1)), tmp_path))
    assert False in won
    assert won[-2:] == [None, None]
    assert None not in won[:-2]


@pytest.mark.parametrize("allowed", [0, 13, 14, 30])
def test_it_spends_what_it_may(allowed: int, tmp_path: Path) -> None:
    walls = walls_of(96)
    problem = begun(walls, Counting(Coupled(walls.network, weights_of(0))), tmp_path)
    before = problem.spent
    guided.descend(problem, allowed)
    assert problem.spent - before <= allowed
    assert (problem.spent > before) == (allowed >= guided.rounds(walls) == 14)


def test_slopes_are_those_at_the_centre(tmp_path: Path) -> None:
    """Where groups do not harm each other, the curves are right already; elsewhere they get the slope that is found."""
    walls = walls_of(96)
    alone = begun(walls, Separable(walls.network, weights_of(0)), tmp_path / "alone")
    centre = alone.widths(alone.best())
    for losses, curve, grid in zip(guided.local_losses(alone, centre), alone.curves(), walls.grids, strict=True):
        assert losses == pytest.approx([curve.loss(width) for width in grid])

    evaluator = Coupled(walls.network, weights_of(0))
    together = begun(walls, evaluator, tmp_path / "together")
    here, agreed = evaluator.loss(walls.policy(centre)), 0
    for step, losses in enumerate(guided.local_losses(together, centre)):
        grid = walls.grids[step]
        at = grid.index(centre[step])
        beside = at - 1 if at else 1
        moved = walls.policy((*centre[:step], grid[beside], *centre[step + 1 :]))
        agreed += float(losses[beside] - losses[at]) == pytest.approx(evaluator.loss(moved) - here)
    assert agreed >= 8  # of 12; the others are held within bounds

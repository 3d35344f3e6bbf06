"""NetAdapt cuts one group at a time, by real evaluations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amc_mobile.search import opponents
from amc_mobile.search.budget import Walls
from amc_mobile.search.netadapt import netadapt, proposals
from amc_mobile.types import Policy

from .networks import Coupled, Separable, chain, macs, residual
from .searches import Counting, config_of, problem_of

WEIGHTS = [3.0, 0.1, 1.0, 0.3, 4.0]


def walls_of(channels: list[int], share: float = 0.5, *, plain: bool = True) -> Walls:
    graph = chain(channels) if plain else residual(48, channels)
    cost = macs(graph)
    return Walls(graph, cost, share * cost(graph.full().kept), 0.2, 8)


@given(st.lists(st.integers(8, 96), min_size=1, max_size=5), st.booleans(), st.floats(0.3, 0.99), st.data())
@settings(max_examples=60)
def test_a_proposal_is_the_widest_cut_that_reaches_the_target(
    channels: list[int], plain: bool, share: float, data: st.DataObject
) -> None:
    walls = walls_of(channels, 1.0, plain=plain)
    widths = tuple(data.draw(st.sampled_from(grid)) for grid in walls.grids)
    target = share * walls.cost(widths)
    offers = list(proposals(walls, widths, target))
    changed = [[step for step, width in enumerate(widths) if offer[step] != width] for offer in offers]
    assert all(len(steps) == 1 for steps in changed)
    assert len({steps[0] for steps in changed}) == len(offers)
    reaching = [offer for offer in offers if walls.cost(offer) <= target]
    for offer, (step,) in zip(offers, changed, strict=True):
        grid = walls.grids[step]
        wider = (*offer[:step], grid[grid.index(offer[step]) + 1], *offer[step + 1 :])
        assert offer[step] < widths[step]
        assert walls.cost(offer) < walls.cost(widths)
        assert walls.cost(wider) > target if reaching else offer[step] == grid[0]
    assert not reaching or reaching == offers
    alone = [(*widths[:step], grid[0], *widths[step + 1 :]) for step, grid in enumerate(walls.grids)]
    assert sum(walls.cost(cut) <= target and cut != widths for cut in alone) == len(reaching)


@pytest.mark.parametrize("evaluator", [Separable, Coupled])
def test_it_ends_on_the_budget_better_than_uniform(evaluator: type[Separable], tmp_path: Path) -> None:
    walls = walls_of([32, 64, 64, 128, 128])
    judge = evaluator(walls.network, WEIGHTS)
    counting = Counting(judge)
    problem = problem_of(walls, counting, tmp_path, config_of("netadapt", evaluations=100))
    netadapt(problem)
    (trial,) = problem.trials
    assert walls.holds(problem.widths(trial))
    widths = problem.widths(trial)
    wider = [
        (*widths[:step], grid[grid.index(widths[step]) + 1], *widths[step + 1 :])
        for step, grid in enumerate(walls.grids)
        if widths[step] < grid[-1]
    ]
    assert all(walls.cost(offer) > walls.limit for offer in wider)
    assert trial.score.kl < 0.3 * judge.loss(walls.policy(opponents.uniform(walls)))
    assert 50 < counting.calls == problem.spent <= 100


def test_with_few_evaluations_a_common_factor_does_the_rest(tmp_path: Path) -> None:
    walls = walls_of([32, 64, 64, 128, 128])
    problem = problem_of(walls, Separable(walls.network, WEIGHTS), tmp_path, config_of("netadapt", evaluations=4))
    netadapt(problem)
    assert [problem.widths(trial) for trial in problem.trials] == [opponents.uniform(walls)]
    assert problem.spent == 1


def test_the_best_proposal_of_a_round_is_kept(tmp_path: Path) -> None:
    """Only one group is harmless, and large enough to do it alone: it is the one that is cut, round by round."""
    walls = walls_of([32, 64, 64], 0.8)

    class OnlySecond(Separable):
        def loss(self, policy: Policy) -> float:
            return float(np.sum([policy.kept[index] != 32 * min(index, 2) for index in (1, 3)]))

    problem = problem_of(walls, OnlySecond(walls.network, [1, 1, 1]), tmp_path, config_of("netadapt", evaluations=40))
    netadapt(problem)
    first, second, third = problem.widths(problem.trials[0])
    assert (first, third) == (32, 64)
    assert second == max(width for width in walls.grids[1] if walls.cost((32, width, 64)) <= walls.limit)

"""Accuracy-guaranteed: the cheapest network tried that keeps the stated accuracy, paid as in the paper."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from amc_mobile.cost.price import cost_function, price
from amc_mobile.cost.table import LatencyTable
from amc_mobile.errors import BudgetError
from amc_mobile.runs import RunFolder, read_json
from amc_mobile.search.run import search
from amc_mobile.sections.search import AgentName, SearchConfig
from amc_mobile.types import Budget, Metric, NetworkGraph, Policy, RewardName, Score

from .networks import Coupled, Separable
from .searches import EVERY_AGENT, WEIGHTS, budget_of, config_of, run, six_groups

every_agent = pytest.mark.parametrize("agent", EVERY_AGENT)


def settings(agent: AgentName, **changes: Any) -> SearchConfig:
    return config_of(agent, protocol="accuracy", **{"max_loss": 0.1, "reward": "top1", **changes})


def whole(graph: NetworkGraph, metric: Metric) -> Budget:
    """A limit that is none."""
    return Budget(metric, cost_function(graph, metric)(graph.full().kept))


class Fragile(Separable):
    """Loses too much by any pruning at all."""

    def evaluate(self, policy: Policy, to_beat: float | None = None) -> Score:
        return super().evaluate(policy) if policy == self.graph.full() else Score(0.2, 0.3, 4.0, 100)


@every_agent
def test_the_result_is_the_cheapest_trial_that_is_accurate_enough(agent: AgentName, tmp_path: Path) -> None:
    result, trials = run(six_groups(), tmp_path, settings(agent), evaluator=Coupled(six_groups(), WEIGHTS))
    assert result.least_accuracy == 0.9
    enough = [trial for trial in trials if trial.score.top1 >= 0.9]
    assert result.best.cost.macs == min(trial.cost.macs for trial in enough)
    assert result.best in enough
    assert (trials[0].agent, trials[0].kept) == ("unpruned", six_groups().full().kept)
    assert read_json(tmp_path / "search.json")["least_accuracy"] == 0.9


@pytest.mark.parametrize("agent", ["auto", "knapsack", "netadapt", "sensitivity", "greedy"])
def test_those_who_know_the_losses_find_less_than_half_of_the_work(agent: AgentName, tmp_path: Path) -> None:
    config = settings(agent, evaluations=100)
    result, trials = run(six_groups(), tmp_path, config, evaluator=Coupled(six_groups(), WEIGHTS))
    assert result.best.cost.macs < 0.5 * trials[0].cost.macs


@every_agent
def test_where_nothing_else_is_accurate_enough_it_is_the_original(agent: AgentName, tmp_path: Path) -> None:
    result, _ = run(six_groups(), tmp_path, settings(agent), evaluator=Fragile(six_groups(), WEIGHTS))
    assert result.best.kept == six_groups().full().kept


@pytest.mark.parametrize("max_loss", [0.0, 0.02, 0.5])
def test_the_stated_loss_is_the_users(max_loss: float, tmp_path: Path) -> None:
    result, _ = run(six_groups(), tmp_path, settings("auto", max_loss=max_loss))
    assert result.least_accuracy == pytest.approx(1 - max_loss)
    assert result.best.score.top1 >= 1 - max_loss


@pytest.mark.parametrize("metric", ["macs", "params", "bytes"])
@pytest.mark.parametrize(
    ("reward", "error"),
    [
        ("top1", lambda score: 1 - score.top1),
        ("top5", lambda score: 1 - score.top5),
        ("kl", lambda score: score.kl),
    ],
)
def test_the_agent_is_paid_by_error_and_logarithm_of_the_cost(
    metric: Metric, reward: RewardName, error: Any, tmp_path: Path
) -> None:
    graph = six_groups()
    result, trials = run(graph, tmp_path, settings("ddpg", reward=reward), budgets=[whole(graph, metric)])
    for trial in trials:
        assert trial.reward == pytest.approx(-error(trial.score) * math.log(getattr(trial.cost, metric)))
    assert result.budget.metric == metric


def test_top5_is_guaranteed_where_the_agent_is_paid_by_it(tmp_path: Path) -> None:
    result, trials = run(six_groups(), tmp_path, settings("auto", reward="top5"))
    assert result.best.score.top1 < 0.9 <= result.best.score.top5
    assert result.best.cost.macs == min(trial.cost.macs for trial in trials if trial.score.top5 >= 0.9)


# --------------------------------------------------------------------------------------------- with limits as well


@every_agent
def test_several_limits_hold_at_the_same_time(agent: AgentName, tmp_path: Path) -> None:
    """The first one's cost is minimised, and paid for, even where another limit is the tighter one."""
    graph = six_groups()
    limits = [whole(graph, "macs"), Budget("params", 0.6 * price(graph, graph.full()).params)]
    result, trials = run(graph, tmp_path, settings(agent, max_loss=0.3), budgets=limits)
    assert all(trial.cost.params <= limits[1].limit for trial in trials)
    enough = [trial for trial in trials if trial.score.top1 >= 0.7]
    assert result.best.cost.macs == min(trial.cost.macs for trial in enough)
    assert result.further == (limits[1],)
    for trial in trials:
        assert trial.reward == pytest.approx((trial.score.top1 - 1) * math.log(trial.cost.macs))


def test_limits_that_forbid_the_accuracy_are_told(tmp_path: Path) -> None:
    with pytest.raises(
        BudgetError, match=r"no policy within the limits keeps an accuracy of 0\.9000.*--max-loss"
    ) as caught:
        run(six_groups(), tmp_path, settings("uniform"), budgets=[budget_of(six_groups(), 0.2)])
    assert "\n" not in str(caught.value)


class Clock(LatencyTable):
    """A table as far as a search needs one: a microsecond for every thousand MACs."""

    def __init__(self) -> None:
        pass

    def latency_us(self, network: NetworkGraph, kept: Any) -> float:
        return price(network, Policy(tuple(kept))).macs / 1000


def test_the_margin_of_a_latency_does_not_forbid_the_original(tmp_path: Path) -> None:
    """Without a limit by the user the limit is the original's own latency, and all of it may be used."""
    graph, table = six_groups(), Clock()
    limit = Budget("latency_us", table.latency_us(graph, graph.full().kept))
    result = search(
        graph, {"": table}, Fragile(graph, WEIGHTS), settings("uniform"), [limit], 0, RunFolder(tmp_path).create()
    )
    assert result.best.kept == graph.full().kept

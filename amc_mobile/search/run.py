"""The search from its first question to its result: who searches, what is kept, and what is the best of it.

The result is the best trial seen, whoever proposed it, with every budget checked again. Under the accuracy-guaranteed
protocol the unpruned network is the first trial, so that there always is a result.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence

from amc_mobile.cost.price import cost_function
from amc_mobile.cost.table import LatencyTable
from amc_mobile.device.protocol import Progress
from amc_mobile.errors import BudgetError
from amc_mobile.runs import RunFolder, plain, write_json
from amc_mobile.search import sensitivity
from amc_mobile.search.agents import AGENTS, Agent, expected_evaluations
from amc_mobile.search.budget import Walls, build_walls, in_words, replaced
from amc_mobile.search.ddpg import one_thread
from amc_mobile.search.episodes import AGENT
from amc_mobile.search.evaluator import PolicyEvaluator
from amc_mobile.search.goal import WithinBudget, WithinLoss
from amc_mobile.search.journal import Journal
from amc_mobile.search.problem import Exhausted, Problem
from amc_mobile.sections.search import SearchConfig
from amc_mobile.trials import SearchResult, Trial
from amc_mobile.types import Budget, NetworkGraph


def search(
    network: NetworkGraph,
    tables: Mapping[str, LatencyTable],
    evaluator: PolicyEvaluator,
    config: SearchConfig,
    budgets: Sequence[Budget],
    seed: int,
    folder: RunFolder,
    progress: Progress | None = None,
    context: Mapping[str, str] | None = None,
    agent: Agent | None = None,
) -> SearchResult:
    """The best policy within all budgets. Continues the folder's search, if it holds one under the same settings.

    Writes trials.jsonl and probes.jsonl after every evaluation, sensitivity.json if groups were measured alone, and
    search.json at the end. `tables` are found by the budgets' device names. `context` names whatever else the scores
    depend on (model, images, pruning); it is compared when a search is continued. `agent` replaces the config's.

    Raises: BudgetError if the smallest policy exceeds a limit; RunFolderError if the folder holds another search;
        ConfigError if the agent is not installed.
    """
    guaranteed = config.protocol == "accuracy"
    walls = _walls(network, budgets, tables, config)
    journal = Journal(folder, fingerprint(walls, config, budgets, seed, context or {}))
    problem = Problem(walls, WithinBudget(config.reward), tables, evaluator, config, seed, journal, progress)
    problem.expected = expected_evaluations(walls, config)
    with one_thread(), contextlib.suppress(Exhausted):
        if guaranteed:
            _begin_unpruned(problem, budgets[0])
        (agent or AGENTS[config.agent])(problem)
    if problem.curves_known:
        sensitivity.save(folder.sensitivity, problem.curves())
    result = _result(problem, budgets)
    write_json(folder.search, result)
    return result


def fingerprint(
    walls: Walls, config: SearchConfig, budgets: Sequence[Budget], seed: int, context: Mapping[str, str]
) -> dict[str, str]:
    """Everything that the answers depend on, by name: settings in words, network and costs (tables) as digests."""
    one_narrower = [
        walls.cost(replaced(walls.channels, step, width)) for step, grid in enumerate(walls.grids) for width in grid
    ]
    limits = ", ".join(f"{budget.metric}{budget.device and '@' + budget.device} {budget.limit!r}" for budget in budgets)
    return {
        **context,
        "seed": str(seed),
        "budget": limits,
        "network": _digest(plain(walls.network)),
        "costs": _digest([walls.smallest_cost, *one_narrower]),
        **{f"search.{name}": str(value) for name, value in config if name not in ("threads", "evaluator")},
    }


def _walls(
    network: NetworkGraph, budgets: Sequence[Budget], tables: Mapping[str, LatencyTable], config: SearchConfig
) -> Walls:
    """The budgets' walls. Accuracy-guaranteed they have no lower side, and no margin if the original keeps them."""
    if config.protocol == "resource":
        return build_walls(network, budgets, tables, config)
    walls = build_walls(network, budgets, tables, config.model_copy(update={"latency_margin": 0.0}), landing=0.0)
    return walls if walls.holds(walls.channels) else build_walls(network, budgets, tables, config, landing=0.0)


def _begin_unpruned(problem: Problem, budget: Budget) -> None:
    """The unpruned network, or the next within the limits, as the first trial; the accuracy that is to be kept."""
    name, original = problem.config.reward, problem.probe(problem.walls.channels, "the original")
    least_accuracy = round(original.accuracy(name) - problem.config.max_loss, 12)  # 0.8 - 0.1 is 0.7000000000000001
    cost_of = cost_function(problem.walls.network, budget.metric, problem.tables, budget.device)
    problem.goal = WithinLoss(name, least_accuracy, cost_of)
    problem.evaluate("unpruned", "opponent", problem.walls.project(problem.walls.channels))


def _result(problem: Problem, budgets: Sequence[Budget]) -> SearchResult:
    """The best trial of all, and the best of every other agent.

    Raises: BudgetError if there is none, or none that keeps the accuracy, or it broke a budget.
    """
    if not problem.trials:
        raise BudgetError(
            f"{problem.config.evaluations} evaluations do not suffice for agent {problem.config.agent}: it has not "
            "proposed a policy yet; allow more with --evaluations"
        )
    ranked = sorted(problem.trials, key=problem.goal.merit, reverse=True)  # stable: of equals the first
    least_accuracy = problem.goal.least_accuracy if isinstance(problem.goal, WithinLoss) else None
    _check(problem, ranked[0], budgets)
    if least_accuracy is not None and not problem.goal.enough(ranked[0].score):
        raise BudgetError(
            f"no policy within the limits keeps an accuracy of {least_accuracy:.4f}, the best of {len(ranked)} has "
            f"{ranked[0].score.accuracy(problem.config.reward):.4f}; allow more with --max-loss, or raise the limits"
        )
    others = dict.fromkeys(trial.agent for trial in problem.trials if trial.agent != AGENT)
    return SearchResult(
        budget=budgets[0],
        further=tuple(budgets[1:]),
        best=ranked[0],
        opponents=tuple(next(trial for trial in ranked if trial.agent == agent) for agent in others),
        episodes=sum(trial.agent == AGENT for trial in problem.trials),
        least_accuracy=least_accuracy,
        evaluations=problem.spent,
    )


def _check(problem: Problem, best: Trial, budgets: Sequence[Budget]) -> None:
    for budget in budgets:
        spent = cost_function(problem.walls.network, budget.metric, problem.tables, budget.device)(best.kept)
        if spent > budget.limit:
            raise BudgetError(
                f"the best policy costs {in_words(spent, budget.metric)}, more than the budget of "
                f"{in_words(budget.limit, budget.metric)}; please report this with trials.jsonl and config.toml"
            )


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]

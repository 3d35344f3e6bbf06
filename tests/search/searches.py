"""Whole searches on tiny networks: how a test starts one, stops it, and reads what it left."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from amc_mobile.runs import RunFolder, read_trials
from amc_mobile.search.agents import AGENTS
from amc_mobile.search.budget import Walls
from amc_mobile.search.evaluator import PolicyEvaluator
from amc_mobile.search.goal import WithinBudget
from amc_mobile.search.journal import Journal
from amc_mobile.search.problem import Problem
from amc_mobile.search.rewards import REWARDS
from amc_mobile.search.run import search
from amc_mobile.sections.search import AgentName, SearchConfig
from amc_mobile.trials import SearchResult, Trial
from amc_mobile.types import Budget, NetworkGraph, Policy, RewardName, Score

from .networks import Separable, chain, macs

WEIGHTS = [3.0, 0.1, 1.0, 0.05, 4.0, 0.3]
QUICK = SearchConfig(
    episodes=16,
    warmup_episodes=4,
    random_policies=2,
    sensitivity_points=2,
    hidden=8,
    batch_size=8,
    reward="kl",
    agent="auto",
)

_SB3 = importlib.util.find_spec("stable_baselines3") is not None
EVERY_AGENT = [
    pytest.param(name, marks=pytest.mark.skipif(name.startswith("sb3") and not _SB3, reason="no stable-baselines3"))
    for name in AGENTS
]


def six_groups() -> NetworkGraph:
    """The network that WEIGHTS belong to."""
    return chain([16, 32, 32, 64, 64, 64])


def config_of(agent: AgentName, **changes: Any) -> SearchConfig:
    return QUICK.model_copy(update={"agent": agent, **changes})


def budget_of(graph: NetworkGraph, share: float = 0.5) -> Budget:
    return Budget("macs", share * macs(graph)(graph.full().kept))


def run(
    graph: NetworkGraph,
    root: Path,
    config: SearchConfig = QUICK,
    *,
    seed: int = 0,
    evaluator: PolicyEvaluator | None = None,
    budgets: Sequence[Budget] = (),
    **options: Any,
) -> tuple[SearchResult, list[Trial]]:
    """A search for half of the MACs (all of them, accuracy-guaranteed), and its trials from the disk."""
    folder = RunFolder(root).create()
    budgets = budgets or [budget_of(graph, 0.5 if config.protocol == "resource" else 1.0)]
    evaluator = evaluator or Separable(graph, WEIGHTS)
    result = search(graph, {}, evaluator, config, budgets, seed, folder, **options)
    return result, read_trials(folder.trials)


def lines(root: Path, name: str = "trials.jsonl") -> list[dict[str, Any]]:
    """What a search wrote, without the one field that may differ."""
    path = root / name
    read = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [{name: value for name, value in entry.items() if name != "seconds"} for entry in read]


def problem_of(walls: Walls, evaluator: PolicyEvaluator, root: Path, config: SearchConfig = QUICK) -> Problem:
    """A search about to begin, resource-constrained: for the parts that an agent is made of."""
    goal, journal = WithinBudget(config.reward), Journal(RunFolder(root).create(), {})
    return Problem(walls, goal, {}, evaluator, config, 0, journal)


class Racing:
    """Gives up what will be below `to_beat`, as the real evaluator may: a worse score, over half of the images."""

    def __init__(self, inner: PolicyEvaluator, reward: RewardName = "kl") -> None:
        self._inner, self._reward = inner, reward
        self.given_up = 0

    def evaluate(self, policy: Policy, to_beat: float | None = None) -> Score:
        score = self._inner.evaluate(policy)
        if to_beat is None or REWARDS[self._reward](score) >= to_beat:
            return score
        self.given_up += 1
        return Score(score.top1 / 2, score.top5 / 2, 1.5 * score.kl, score.images // 2)


class Counting:
    """Notes every policy that is evaluated. With `stop_after` it raises, as Ctrl-C does, at the next one."""

    def __init__(self, inner: PolicyEvaluator, stop_after: int | None = None) -> None:
        self._inner, self._stop_after = inner, stop_after
        self.seen: Counter[tuple[int, ...]] = Counter()

    @property
    def calls(self) -> int:
        return self.seen.total()

    def evaluate(self, policy: Policy, to_beat: float | None = None) -> Score:
        if self.calls == self._stop_after:
            raise KeyboardInterrupt
        self.seen[policy.kept] += 1
        return self._inner.evaluate(policy, to_beat)


def best_of_each(result: SearchResult) -> Mapping[str, float]:
    return {trial.agent: trial.reward for trial in result.opponents}

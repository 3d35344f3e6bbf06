"""What holds for every agent, under both protocols: seeds decide, a stopped search goes on, limits are limits."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest

from amc_mobile.errors import BudgetError
from amc_mobile.search.agents import AGENTS
from amc_mobile.sections.search import AgentName, SearchConfig
from amc_mobile.trials import SearchResult

from .networks import Separable
from .searches import EVERY_AGENT, WEIGHTS, Counting, Racing, config_of, lines, run, six_groups

RANDOM: tuple[AgentName, ...] = ("auto", "ddpg", "ddpg-warm", "sb3-ddpg", "sb3-td3", "random")
every_agent = pytest.mark.parametrize("agent", EVERY_AGENT)
both_protocols = pytest.mark.parametrize("protocol", ["resource", "accuracy"])


def settings(agent: AgentName, protocol: str = "resource", **changes: Any) -> SearchConfig:
    return config_of(agent, protocol=protocol, max_loss=0.1, **changes)


def written(root: Path) -> list[Any]:
    """All that a search leaves, but for the time that it took."""
    names = ("search.begun.json", "sensitivity.json")
    plain = [(root / name).read_text() if (root / name).exists() else None for name in names]
    return [lines(root), lines(root, "probes.jsonl"), *plain]


def timeless(result: SearchResult) -> tuple[Any, ...]:
    trials = [(trial.index, trial.kept, trial.score, trial.reward) for trial in (result.best, *result.opponents)]
    return trials, result.episodes, result.evaluations, result.least_accuracy


def test_every_agent_of_the_settings_is_there() -> None:
    assert set(AGENTS) == set(AgentName.__args__)  # type: ignore[attr-defined]


@both_protocols
@every_agent
def test_another_seed_is_another_search_for_those_who_play_with_chance(
    agent: AgentName, protocol: str, tmp_path: Path
) -> None:
    for seed in (0, 1):
        run(six_groups(), tmp_path / str(seed), settings(agent, protocol), seed=seed)
    assert (lines(tmp_path / "0") != lines(tmp_path / "1")) == (agent in RANDOM)


@every_agent
def test_an_agent_leaves_nothing_but_its_run(agent: AgentName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    run(six_groups(), tmp_path / "run", settings(agent))
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith("torch")] == ["run"]  # torch's caches


@both_protocols
@every_agent
def test_a_resumed_search_equals_an_uninterrupted_one(agent: AgentName, protocol: str, tmp_path: Path) -> None:
    """The same seed gives the same search, stopped after every third part of its evaluations or not at all.

    Losers are given up early here, and some are probed again later.
    """
    config, evaluator = settings(agent, protocol), Counting(Racing(Separable(six_groups(), WEIGHTS)))
    expected, _ = run(six_groups(), tmp_path / "whole", config, evaluator=evaluator)
    part, stops = max(1, evaluator.calls // 3), 0
    while True:
        rest = Counting(Racing(Separable(six_groups(), WEIGHTS)), stop_after=part)
        try:
            result, _ = run(six_groups(), tmp_path / "stopped", config, evaluator=rest)
            break
        except KeyboardInterrupt:
            stops += 1
    assert written(tmp_path / "stopped") == written(tmp_path / "whole")
    assert timeless(result) == timeless(expected)
    assert stops * part + rest.calls == evaluator.calls  # nothing was evaluated twice


@both_protocols
@every_agent
def test_no_agent_evaluates_more_than_it_may(agent: AgentName, protocol: str, tmp_path: Path) -> None:
    """Evaluations are counted as different networks. Where they do not suffice for one proposal, that is said."""
    for limit in (1, 2, 9, 20):
        evaluator = Counting(Separable(six_groups(), WEIGHTS))
        config = settings(agent, protocol, evaluations=limit)
        try:
            result, trials = run(six_groups(), tmp_path / str(limit), config, evaluator=evaluator)
        except BudgetError as error:
            assert f"{limit} evaluations do not suffice" in str(error)
            assert evaluator.calls == limit
            assert agent in {"sensitivity", "greedy", "knapsack"}
            assert protocol == "resource"
            assert limit < 12 + 1  # two for each of six groups
        else:
            assert result.evaluations == evaluator.calls == len(evaluator.seen) <= limit
            assert {trial.kept for trial in trials} <= set(evaluator.seen)


@every_agent
def test_the_result_counts_the_evaluations(agent: AgentName, tmp_path: Path) -> None:
    """A network that lost its race and is probed later is run again, but counts once."""
    for name, inner in (
        ("exact", Separable(six_groups(), WEIGHTS)),
        ("racing", Racing(Separable(six_groups(), WEIGHTS))),
    ):
        evaluator = Counting(inner)
        result, _ = run(six_groups(), tmp_path / name, settings(agent), evaluator=evaluator)
        assert result.evaluations == len(evaluator.seen)
        assert name == "racing" or evaluator.calls == result.evaluations
        assert max(evaluator.seen.values()) <= 2

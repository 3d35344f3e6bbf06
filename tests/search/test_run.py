"""The whole search: it learns, it keeps the budget, and killed and resumed it is the same search."""

from __future__ import annotations

import json
import multiprocessing
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from amc_mobile.config import SearchConfig
from amc_mobile.errors import BudgetError, RunFolderError
from amc_mobile.runs import RunFolder, read_json, read_trials
from amc_mobile.search import opponents
from amc_mobile.search.budget import Walls
from amc_mobile.search.run import search
from amc_mobile.types import Budget, NetworkGraph, Policy, Score, SearchResult, Trial

from . import killed
from .networks import Conv, Coupled, Separable, chain, macs, network

WEIGHTS = [3.0, 0.1, 1.0, 0.05, 4.0, 0.3]
QUICK = SearchConfig(
    episodes=12, warmup_episodes=4, random_policies=2, sensitivity_points=2, hidden=8, batch_size=8, reward="kl"
)


@pytest.fixture
def graph() -> NetworkGraph:
    return chain([16, 32, 32, 64, 64, 64])


def budget_of(graph: NetworkGraph, share: float = 0.5) -> Budget:
    return Budget("macs", share * macs(graph)(graph.full().kept))


def run(
    graph: NetworkGraph, root: Path, config: SearchConfig = QUICK, seed: int = 0, **kwargs: Any
) -> tuple[SearchResult, list[Trial]]:
    evaluator = kwargs.pop("evaluator", None) or Separable(graph, WEIGHTS)
    folder = RunFolder(root).create()
    result = search(graph, None, evaluator, config, kwargs.pop("budget", budget_of(graph)), seed, folder, **kwargs)
    return result, read_trials(folder.trials)


def lines(root: Path) -> list[dict[str, Any]]:
    """trials.jsonl without the one field that may differ."""
    read = [json.loads(line) for line in (root / "trials.jsonl").read_text().splitlines()]
    return [{name: value for name, value in trial.items() if name != "seconds"} for trial in read]


# ---------------------------------------------------------------------------------------------------------- learning


def test_the_published_agent_beats_uniform_and_random(tmp_path: Path) -> None:
    """AMC as published against uniform and as many random policies: narrow groups hurt, wide ones hardly do."""
    channels = [3, *([32, 96] * 6), 10]
    graph = network(channels, [Conv(group, group + 1) for group in range(len(channels) - 1)])
    config = SearchConfig(
        episodes=180, warmup_episodes=50, warm_start=False, hidden=64, random_policies=180, reward="kl"
    )
    evaluator = Separable(graph, [3.0, 0.2] * 6)
    result, trials = run(graph, tmp_path, config, seed=1, evaluator=evaluator, budget=budget_of(graph, 0.4))
    own = [trial.reward for trial in trials if trial.agent == "ddpg"]
    others = {trial.agent: trial.reward for trial in result.opponents}
    assert max(own) > 0.25 * others["uniform"]  # a quarter of the loss
    assert max(own) > 0.5 * others["random"]
    assert max(own) > 0.5 * max(own[:50])  # and it is not the warm-up's luck
    assert trials[-1].phase == "final"
    assert trials[-1].reward > 0.5 * others["random"]


def test_a_warm_start_improves_on_every_opponent(tmp_path: Path) -> None:
    """Groups that harm each other: the greedy opponent's sensitivities cannot know, the episodes find out."""
    graph = network([3, *[64] * 12, 10], [Conv(group, group + 1) for group in range(13)])
    evaluator = Coupled(graph, [3, 0.2, 1, 0.5, 2, 0.1] * 2)
    result, trials = run(graph, tmp_path, SearchConfig(episodes=60, hidden=16, reward="kl"), evaluator=evaluator)
    others = {trial.agent: trial.reward for trial in result.opponents}
    assert list(others) == ["uniform", "shallow", "deep", "random", "sensitivity", "greedy"]
    assert result.best.agent == "ddpg"
    assert result.best.reward > 0.75 * max(others.values())
    local = [trial.kept for trial in trials if trial.phase == "local"]
    assert len(set(local)) == len(local) == 30  # none was evaluated twice


# ------------------------------------------------------------------------------------------------- what is recorded


def test_every_trial_keeps_the_budget_and_the_result_is_the_best(graph: NetworkGraph, tmp_path: Path) -> None:
    budget = budget_of(graph)
    result, trials = run(graph, tmp_path)
    assert [trial.index for trial in trials] == list(range(opponents.NAMED + 2 + 12 + 1))
    assert {trial.phase for trial in trials} == {"opponent", "warmup", "local", "explore", "final"}
    assert all(trial.cost.macs <= budget.limit for trial in trials)
    assert all(trial.cost.macs == macs(graph)(trial.kept) for trial in trials)
    assert result.best.reward == max(trial.reward for trial in trials)
    assert result.budget == budget
    stored = read_json(tmp_path / "search.json")
    assert stored["best"]["kept"] == list(result.best.kept)
    assert [trial["agent"] for trial in stored["opponents"]] == [trial.agent for trial in result.opponents]


def test_equal_rewards_are_decided_by_divergence(graph: NetworkGraph, tmp_path: Path) -> None:
    class Coarse(Separable):
        def evaluate(self, policy: Policy) -> Score:
            score = super().evaluate(policy)
            return Score(0.5, 0.5, score.kl, 2)

    result, trials = run(graph, tmp_path, QUICK.model_copy(update={"reward": "top1"}), evaluator=Coarse(graph, WEIGHTS))
    assert result.best.score.kl == min(trial.score.kl for trial in trials)


def test_without_opponents_it_is_the_agent_alone(graph: NetworkGraph, tmp_path: Path) -> None:
    result, trials = run(graph, tmp_path, QUICK.model_copy(update={"opponents": False}))
    assert {trial.agent for trial in trials} == {"ddpg"}
    assert result.opponents == ()
    assert not (tmp_path / "sensitivity.json").exists()


def test_progress_counts_every_evaluation(graph: NetworkGraph, tmp_path: Path) -> None:
    told: list[tuple[int, int, str]] = []
    evaluator = Separable(graph, WEIGHTS)
    run(graph, tmp_path, evaluator=evaluator, progress=lambda *step: told.append(step))
    assert [done for done, _, _ in told] == list(range(evaluator.calls))
    assert {total for _, total, _ in told} == {evaluator.calls}
    assert "uniform" in told[12][2]
    assert "best reward -" in told[-1][2]


def test_seeds_make_other_searches(graph: NetworkGraph, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(graph, tmp_path / name, seed=seed)
    assert lines(tmp_path / "a") == lines(tmp_path / "b") != lines(tmp_path / "c")


def test_an_impossible_budget_touches_nothing(graph: NetworkGraph, tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match=r"set budget\.macs to"):
        run(graph, tmp_path, budget=budget_of(graph, 0.001))
    assert list(tmp_path.iterdir()) == []


# ----------------------------------------------------------------------------------------------------------- resuming


class Stopping(Separable):
    """Raises, as Ctrl-C does, at its n-th evaluation."""

    def __init__(self, graph: NetworkGraph, stop_at: int) -> None:
        super().__init__(graph, WEIGHTS)
        self.stop_at = stop_at

    def evaluate(self, policy: Policy) -> Score:
        if self.calls >= self.stop_at:
            raise KeyboardInterrupt
        return super().evaluate(policy)


def test_an_interrupted_search_is_continued_bit_for_bit(graph: NetworkGraph, tmp_path: Path) -> None:
    expected, _ = run(graph, tmp_path / "whole")
    stops = 0
    while stops < 20:
        try:
            result, _ = run(graph, tmp_path / "stopped", evaluator=Stopping(graph, 5))
            break
        except KeyboardInterrupt:
            stops += 1
    assert stops == 6  # 12 sensitivities, 7 opponents, 13 episodes: nothing was evaluated twice
    assert lines(tmp_path / "stopped") == lines(tmp_path / "whole")
    assert result.best.kept == expected.best.kept


def test_a_finished_search_is_not_searched_again(graph: NetworkGraph, tmp_path: Path) -> None:
    expected, _ = run(graph, tmp_path)
    before = (tmp_path / "trials.jsonl").read_bytes()
    again, _ = run(graph, tmp_path, evaluator=Stopping(graph, 0))
    assert again == expected
    assert (tmp_path / "trials.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda graph: {"config": QUICK.model_copy(update={"episodes": 20})}, "search.episodes was 12, is 20"),
        (lambda graph: {"seed": 3}, "seed was 0, is 3"),
        (lambda graph: {"budget": budget_of(graph, 0.6)}, "budget was macs"),
        (lambda graph: {"context": {"model": "other"}}, "model was None, is other"),
    ],
)
def test_a_search_is_only_continued_under_its_settings(
    graph: NetworkGraph, tmp_path: Path, change: Callable[[NetworkGraph], dict[str, Any]], told: str
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(graph, tmp_path, evaluator=Stopping(graph, 15))
    with pytest.raises(RunFolderError) as caught:
        run(graph, tmp_path, **change(graph))
    assert told in str(caught.value)


def test_another_network_is_another_search(graph: NetworkGraph, tmp_path: Path) -> None:
    run(graph, tmp_path)
    with pytest.raises(RunFolderError, match=r"network was .*; costs was "):
        run(chain([16, 32, 32, 64, 64, 48]), tmp_path, budget=budget_of(graph))


def test_threads_do_not_make_another_search(graph: NetworkGraph, tmp_path: Path) -> None:
    first = run(graph, tmp_path)
    written = (tmp_path / "trials.jsonl").read_bytes()
    assert run(graph, tmp_path, QUICK.model_copy(update={"threads": 2})) == first
    assert (tmp_path / "trials.jsonl").read_bytes() == written


def test_kill_minus_nine_at_any_write_loses_nothing(tmp_path: Path) -> None:
    """Real SIGKILLs: before and after chosen writes reach the disk, and at moments chosen by chance."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["amc_mobile.search.run", "torch._dynamo", "tests.search.killed"])

    def start(*arguments: object, **options: object) -> multiprocessing.process.BaseProcess:
        process = processes.Process(target=killed.run, args=(tmp_path / "killed", *arguments), kwargs=options)
        process.start()
        return process

    (tmp_path / "killed").mkdir()
    (tmp_path / "whole").mkdir()
    killed.run(tmp_path / "whole")
    chance = random.Random(1)  # noqa: S311
    for write in (1, 2, 3, 5, 7, 8, 9, 10, 5):
        process = start(write, after=chance.random() < 0.5)
        process.join()
        assert process.exitcode == -signal.SIGKILL
    for _ in range(3):
        process = start()
        time.sleep(chance.uniform(0.0, 0.3))
        process.kill()
        process.join()
    process = start()
    process.join()
    assert process.exitcode == 0
    assert lines(tmp_path / "killed") == lines(tmp_path / "whole")
    best = [read_json(tmp_path / name / "search.json")["best"]["kept"] for name in ("killed", "whole")]
    assert best[0] == best[1]


def test_the_walls_price_what_the_trials_report(graph: NetworkGraph, tmp_path: Path) -> None:
    """The number the agent is held to and the number that is reported are the same function's."""
    _, trials = run(graph, tmp_path)
    walls = Walls(graph, macs(graph), budget_of(graph).limit, QUICK.min_keep_ratio, QUICK.round_to)
    assert all(walls.holds([trial.kept[g.index] for g in walls.groups]) for trial in trials)

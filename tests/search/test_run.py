"""The whole search: what it records, what it returns, and that killed and resumed it is the same search."""

from __future__ import annotations

import multiprocessing
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from amc_mobile.errors import BudgetError, RunFolderError
from amc_mobile.runs import read_json
from amc_mobile.search.budget import Walls
from amc_mobile.types import NetworkGraph, Policy, Score

from . import killed
from .networks import Conv, Coupled, Separable, chain, macs, network
from .searches import QUICK, WEIGHTS, Counting, best_of_each, budget_of, config_of, lines, run, six_groups


@pytest.fixture
def graph() -> NetworkGraph:
    return six_groups()


# ------------------------------------------------------------------------------------------------- what is recorded


def test_every_trial_keeps_the_budget_and_the_result_is_the_best(graph: NetworkGraph, tmp_path: Path) -> None:
    budget = budget_of(graph, 0.7)
    result, trials = run(graph, tmp_path, budgets=[budget])
    assert [trial.index for trial in trials] == list(range(len(trials)))
    phases = {trial.phase for trial in trials}
    assert phases == {"opponent", "model", "local", "explore", "final"}, "a warm start needs no warm-up"
    assert all(trial.cost.macs <= budget.limit for trial in trials)
    assert all(trial.cost.macs == macs(graph)(trial.kept) for trial in trials)
    assert result.best.reward == max(trial.reward for trial in trials)
    assert result.budget == budget
    assert result.episodes == sum(trial.agent == "ddpg" for trial in trials) == 16 // 2 + 1
    stored = read_json(tmp_path / "search.json")
    assert stored["best"]["kept"] == list(result.best.kept)
    assert [trial["agent"] for trial in stored["opponents"]] == [trial.agent for trial in result.opponents]


def test_the_walls_price_what_the_trials_report(graph: NetworkGraph, tmp_path: Path) -> None:
    """The number the agent is held to and the number that is reported are the same function's."""
    _, trials = run(graph, tmp_path)
    walls = Walls(graph, macs(graph), budget_of(graph).limit, QUICK.min_keep_ratio, QUICK.round_to)
    assert all(walls.holds([trial.kept[g.index] for g in walls.groups]) for trial in trials)


def test_equal_rewards_are_decided_by_divergence(graph: NetworkGraph, tmp_path: Path) -> None:
    class Coarse(Separable):
        def evaluate(self, policy: Policy, to_beat: float | None = None) -> Score:
            return Score(0.5, 0.5, super().evaluate(policy).kl, 2)

    result, trials = run(graph, tmp_path, config_of("auto", reward="top1"), evaluator=Coarse(graph, WEIGHTS))
    assert {trial.reward for trial in trials} == {-0.5}
    assert result.best.score.kl == min(trial.score.kl for trial in trials)


def test_the_published_agent_meets_nobody(graph: NetworkGraph, tmp_path: Path) -> None:
    result, trials = run(graph, tmp_path, config_of("ddpg"))
    assert [trial.agent for trial in trials] == ["ddpg"] * 17
    assert [trial.phase for trial in trials] == ["warmup"] * 4 + ["explore"] * 12 + ["final"]
    assert result.opponents == ()
    assert not (tmp_path / "sensitivity.json").exists()
    assert not (tmp_path / "probes.jsonl").exists()


def test_auto_is_at_least_as_good_as_everybody_it_meets(tmp_path: Path) -> None:
    """Groups that harm each other: the opponents' sensitivities cannot know, probes and episodes find out."""
    graph = network([3, *[96] * 12, 10], [Conv(group, group + 1) for group in range(13)])
    evaluator = Coupled(graph, [3, 0.2, 1, 0.5, 2, 0.1] * 2)
    result, trials = run(graph, tmp_path, config_of("auto", episodes=60, hidden=16), evaluator=evaluator)
    others = best_of_each(result)
    met = ["uniform", "shallow", "deep", "random", "sensitivity", "greedy", "knapsack"]
    assert list(others) == [*met, "guided", "local"]
    assert result.best.reward > 0.9 * max(others[name] for name in met)  # rewards are minus the divergence
    local = [trial.kept for trial in trials if trial.phase == "local"]
    assert len(set(local)) == len(local) == 30  # none was evaluated twice


def test_progress_counts_every_evaluation(graph: NetworkGraph, tmp_path: Path) -> None:
    told: list[tuple[int, int, str]] = []
    evaluator = Counting(Separable(graph, WEIGHTS))
    result, _ = run(graph, tmp_path, evaluator=evaluator, progress=lambda *step: told.append(step))
    counts = [done for done, _, _ in told]
    assert counts == sorted(counts)
    assert set(counts) >= set(range(evaluator.calls))
    assert all(done < total for done, total, _ in told)
    assert told[0][2].startswith("uniform")
    assert any(text.startswith("sensitivity of group3 at") and "best reward -" in text for _, _, text in told)
    assert "best reward -" in told[-1][2]
    assert result.evaluations == evaluator.calls


def test_an_impossible_budget_touches_nothing(graph: NetworkGraph, tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match=r"set budget\.macs to"):
        run(graph, tmp_path, budgets=[budget_of(graph, 0.001)])
    assert list(tmp_path.iterdir()) == []


# ----------------------------------------------------------------------------------------------------------- resuming


def test_a_finished_search_is_not_searched_again(graph: NetworkGraph, tmp_path: Path) -> None:
    expected, _ = run(graph, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    again, _ = run(graph, tmp_path, evaluator=Counting(Separable(graph, WEIGHTS), stop_after=0))
    assert again == expected
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda graph: {"config": config_of("auto", episodes=20)}, "search.episodes was 16, is 20"),
        (lambda graph: {"config": config_of("greedy")}, "search.agent was auto, is greedy"),
        (lambda graph: {"seed": 3}, "seed was 0, is 3"),
        (lambda graph: {"budgets": [budget_of(graph, 0.6)]}, "budget was macs"),
        (lambda graph: {"context": {"model": "other"}}, "model was None, is other"),
    ],
)
def test_a_search_is_only_continued_under_its_settings(
    graph: NetworkGraph, tmp_path: Path, change: Callable[[NetworkGraph], dict[str, Any]], told: str
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(graph, tmp_path, evaluator=Counting(Separable(graph, WEIGHTS), stop_after=15))
    with pytest.raises(RunFolderError) as caught:
        run(graph, tmp_path, **change(graph))
    assert told in str(caught.value)


def test_another_network_is_another_search(graph: NetworkGraph, tmp_path: Path) -> None:
    run(graph, tmp_path)
    with pytest.raises(RunFolderError, match=r"network was .*; costs was "):
        run(chain([16, 32, 32, 64, 64, 48]), tmp_path, budgets=[budget_of(graph)])


def test_threads_and_evaluator_do_not_make_another_search(graph: NetworkGraph, tmp_path: Path) -> None:
    first = run(graph, tmp_path)
    written = (tmp_path / "trials.jsonl").read_bytes()
    assert run(graph, tmp_path, config_of("auto", threads=2, evaluator="onnxruntime")) == first
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

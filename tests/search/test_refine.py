"""The end of a search: its best policies are judged by another evaluator, and the best of them by that is improved."""

from __future__ import annotations

from pathlib import Path

import pytest

from amc_mobile.search import refine
from amc_mobile.search.why import read_curves

from .networks import Separable, macs
from .searches import QUICK, Counting, lines, run, six_groups

REPAIRED = [0.3, 4.0, 1.0, 3.0, 0.05, 0.1]  # what the groups lose once they are repaired: nearly the opposite
EVALUATIONS = 40


def refined(root: Path, evaluator: Separable | Counting, evaluations: int = EVALUATIONS):
    graph = six_groups()
    _, former = run(graph, root / "search")
    config = QUICK.model_copy(update={"evaluations": evaluations})
    agent = refine.from_trials(former, read_curves(root / "search" / "sensitivity.json"), evaluations)
    return former, *run(graph, root / "refine", config, evaluator=evaluator, agent=agent)


def test_the_winner_comes_first_then_the_best_of_other_agents(tmp_path: Path) -> None:
    former, _, trials = refined(tmp_path, Separable(six_groups(), REPAIRED))
    winner = max(former, key=lambda trial: trial.reward)
    assert trials[0].kept == winner.kept
    judged = {trial.kept for trial in trials}
    rewards = sorted(max(t.reward for t in former if t.agent == name) for name in {t.agent for t in former})
    assert set(rewards[-6:]) <= {trial.reward for trial in former if trial.kept in judged}


def test_it_finds_what_the_search_could_not_see(tmp_path: Path) -> None:
    graph = six_groups()
    _, result, trials = refined(tmp_path, Separable(graph, REPAIRED))
    assert {"guided", "local"} <= {trial.agent for trial in trials}
    least = max(trial.reward for trial in trials[:6])
    assert result.best.reward > least > trials[0].reward
    limit = 0.5 * macs(graph)(graph.full().kept)
    assert all(macs(graph)(trial.kept) <= limit for trial in trials)


@pytest.mark.parametrize("evaluations", [1, 5, EVALUATIONS])
def test_it_evaluates_no_more_than_it_may(tmp_path: Path, evaluations: int) -> None:
    counting = Counting(Separable(six_groups(), REPAIRED))
    _, result, trials = refined(tmp_path, counting, evaluations)
    assert len(counting.seen) == result.evaluations <= evaluations
    assert {trial.kept for trial in trials} <= set(counting.seen)


def test_interrupted_it_goes_on_where_it_was(tmp_path: Path) -> None:
    refined(tmp_path / "whole", Separable(six_groups(), REPAIRED))
    first, second = (Counting(Separable(six_groups(), REPAIRED), stop_after=stop) for stop in (9, None))
    with pytest.raises(KeyboardInterrupt):
        refined(tmp_path / "broken", first)
    refined(tmp_path / "broken", second)
    for name in ("trials.jsonl", "probes.jsonl"):
        assert lines(tmp_path / "broken" / "refine", name) == lines(tmp_path / "whole" / "refine", name)
    assert len(first.seen) == 9 and not set(first.seen) & set(second.seen)

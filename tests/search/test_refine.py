"""The end of a search: its best policies are judged by another evaluator, and the best of them by that is improved."""

from __future__ import annotations

from pathlib import Path

import pytest

from amc_mobile.search import refine

from .networks import Separable, macs
from .searches import QUICK, Counting, lines, run, six_groups

REPAIRED = [0.3, 4.0, 1.0, 3.0, 0.05, 0.1]  # what the groups lose once they are repaired: nearly the opposite
EVALUATIONS = 40


def refined(root: Path, evaluator: Separable | Counting, evaluations: int = EVALUATIONS):
    graph = six_groups()
    _, former = run(graph, root / "search")
    config = QUICK.model_copy(update={"evaluations": evaluations})
    agent = refine.from_trials(former, evaluations)
    return former, *run(graph, root / "refine", config, evaluator=evaluator, agent=agent)


def test_the_winner_comes_first_then_the_best_of_every_agent(tmp_path: Path) -> None:
    former, _, trials = refined(tmp_path, Separable(six_groups(), REPAIRED))
    winner = max(former, key=lambda trial: trial.reward)
    assert trials[0].kept == winner.kept
    judged = {trial.kept for trial in trials}
    for agent in {trial.agent for trial in former}:
        assert max((t for t in former if t.agent == agent), key=lambda trial: trial.reward).kept in judged


def test_it_finds_what_the_search_could_not_see(tmp_path: Path) -> None:
    graph = six_groups()
    former, result, trials = refined(tmp_path, Separable(graph, REPAIRED))
    least = max(trial.reward for trial in trials[: len({trial.agent for trial in former}) + 4])
    assert result.best.reward > least > trials[0].reward
    limit = 0.5 * macs(graph)(graph.full().kept)
    assert all(macs(graph)(trial.kept) <= limit for trial in trials)


@pytest.mark.parametrize("evaluations", [1, 5, EVALUATIONS])
def test_it_evaluates_no_more_than_it_may(tmp_path: Path, evaluations: int) -> None:
    counting = Counting(Separable(six_groups(), REPAIRED))
    _, result, trials = refined(tmp_path, counting, evaluations)
    assert len(counting.seen) == result.evaluations <= evaluations
    assert len(trials) >= result.evaluations


def test_interrupted_it_goes_on_where_it_was(tmp_path: Path) -> None:
    refined(tmp_path / "whole", Separable(six_groups(), REPAIRED))
    with pytest.raises(KeyboardInterrupt):
        refined(tmp_path / "broken", Counting(Separable(six_groups(), REPAIRED), stop_after=9))
    counting = Counting(Separable(six_groups(), REPAIRED))
    refined(tmp_path / "broken", counting)
    assert lines(tmp_path / "broken" / "refine") == lines(tmp_path / "whole" / "refine")
    assert not {tuple(trial["kept"]) for trial in lines(tmp_path / "broken" / "refine")[:9]} & set(counting.seen)

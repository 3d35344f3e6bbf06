"""The accuracy-guaranteed protocol from the command line, and settings of the search that reach it."""

from __future__ import annotations

import pytest

from amc_mobile.runs import read_json, read_trials


@pytest.fixture
def again(amc, run_folder, tiny):
    """Searches anew in a copy of the finished run: network, graph and calibration are there."""

    def search(*options: object):
        return amc("search", "--config", tiny, "--update", "--out", run_folder, *options)

    return search


def test_the_cheapest_network_within_the_loss_wins(again, amc, run_folder):
    options = ("--protocol", "accuracy", "--max-loss", "0.2", "--macs", "1")
    answer = again(*options, "--json").json()
    trials = read_trials(run_folder / "trials.jsonl")
    original = next(trial for trial in trials if trial.agent == "unpruned")
    assert answer["least_accuracy"] == pytest.approx(original.score.top1 - 0.2)
    enough = [trial.cost.macs for trial in trials if trial.score.top1 >= answer["least_accuracy"]]
    assert answer["best"]["cost"]["macs"] == min(enough)
    assert "least MACs with at least" in again(*options).out
    assert amc("prune", run_folder).code == amc("bench", run_folder).code == amc("report", run_folder).code == 0
    assert "Accuracy guaranteed" in (run_folder / "report.md").read_text(encoding="utf-8")


def test_agent_evaluations_reward_and_racing_reach_the_search(again, run_folder):
    options = ("--macs", "0.6", "--agent", "random", "--evaluations", "7", "--reward", "kl", "--no-racing")
    answer = again(*options, "--evaluator", "torch", "--importance", "activation", "--json").json()
    assert answer["evaluations"] <= 7
    trials = read_trials(run_folder / "trials.jsonl")
    assert {trial.agent for trial in trials} == {"random"}
    assert all(trial.reward == -trial.score.kl and trial.score.images == 24 for trial in trials)
    assert read_json(run_folder / "pareto.json")["reward"] == "kl"


def test_what_lost_its_race_is_marked(again, run_folder):
    said = again("--macs", "0.6").out
    partial = [trial for trial in read_trials(run_folder / "trials.jsonl") if trial.score.images < 24]
    shown = [trial for trial in read_json(run_folder / "search.json")["opponents"] if trial["score"]["images"] < 24]
    assert ("an estimate on fewer images" in said) == bool(shown)
    assert len(partial) >= len(shown)

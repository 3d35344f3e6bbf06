"""Who competed and who won, what was guaranteed, which trials nobody beats, and why each layer is as wide as it is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from amc_mobile.config import RunConfig, dump
from amc_mobile.report import search_figures
from amc_mobile.report.facts import gather
from amc_mobile.report.write import write_report
from amc_mobile.runs import keep_trials, read_trials, write_json, write_text
from amc_mobile.trials import SearchResult
from amc_mobile.types import Budget


def rewritten(run, **changes):
    """The run with another search.json."""
    trials = read_trials(run.trials)
    best = changes.pop("best", max(trials, key=lambda trial: trial.reward))
    budget = changes.pop("budget", Budget("latency_us", 1e9))
    write_json(run.search, SearchResult(budget, best, (), 16, **changes))
    return trials


def test_agents_their_policies_and_all_evaluations_are_counted(run):
    trials = rewritten(run, evaluations=71)
    text = gather(run).contest
    agents = {trial.agent for trial in trials}
    assert text.startswith(f"{len(agents)} agents competed")
    assert all(f"{agent} {sum(trial.agent == agent for trial in trials)}" in text for agent in agents)
    assert "In all 71 different networks" in text
    best = max(trials, key=lambda trial: trial.reward)
    assert f"The winner is trial {best.index}, by “{best.agent}”" in text


def test_what_lost_its_race_is_an_estimate_outside_the_front(run):
    facts = gather(run)
    assert "could not win: 1." in facts.contest
    row = next(row for row in facts.search.agents if row.agent == "shallow")
    assert (row.images, facts.search.images) == (62, 500)
    assert [point.agent for point in facts.search.points if not point.exact] == ["shallow"]
    picture = search_figures.trials(facts.search, None, None)
    assert picture.description.endswith("and estimates on fewer images: 1.")
    assert "estimate on 62 images" in write_report(run).with_suffix(".md").read_text(encoding="utf-8")


def test_the_front_gets_better_as_it_gets_dearer(run):
    search = gather(run).search
    costs, accuracies = zip(*((point.cost, point.accuracy) for point in search.front), strict=True)
    assert list(costs) == sorted(costs) and list(accuracies) == sorted(set(accuracies))
    assert max(accuracies) == max(point.accuracy for point in search.points)


def test_a_trial_named_by_hand_is_the_chosen_one(run):
    write_text(run.config, dump(RunConfig(prune={"point": 2})))
    facts = gather(run)
    assert facts.search.by_hand and facts.search.chosen.trial == 2
    assert facts.search.agent == facts.search.points[2].agent == "deep"
    assert "trial 2, chosen by hand" in facts.contest
    assert [row.agent for row in facts.search.agents if row.chosen] == ["deep"]


@pytest.mark.parametrize("reward", ["top1", "top5"])
def test_a_guaranteed_accuracy_is_told_and_ranks_the_agents(run, reward):
    trials = [trial for trial in read_trials(run.trials) if trial.score.images == 500]
    write_text(run.config, dump(RunConfig(search={"protocol": "accuracy", "reward": reward})))
    least = sorted(getattr(trial.score, reward) for trial in trials)[len(trials) // 2]
    enough = [trial for trial in trials if getattr(trial.score, reward) >= least]
    best = min(enough, key=lambda trial: trial.cost.latency_us)
    full = 40.0 + gather(run).sizes.macs_before / 9e3
    rewritten(run, best=best, budget=Budget("latency_us", full), least_accuracy=least)
    facts = gather(run)
    words = facts.budget_sentence.replace("\xa0", " ")
    assert f"at least {100 * least:.1f} % {reward.replace('top', 'top-')} on the 500 search images" in words
    assert "Accuracy guaranteed" in words and "asked for at most" not in words
    assert facts.search.agents[0].agent == best.agent and facts.search.agents[0].chosen


def test_reasons_stand_in_page_and_markdown(run):
    facts = gather(run)
    assert [row.group for row in facts.reasons] == [row.name for row in facts.structure.groups]
    assert [row.loses == "not measured" for row in facts.reasons] == [False, True, False, True]
    page = write_report(run)
    for text in (page.read_text(encoding="utf-8"), page.with_suffix(".md").read_text(encoding="utf-8")):
        assert "Why each layer is as wide as it is" in text
        assert all(row.wider in text for row in facts.reasons)


def test_without_why_json_the_page_says_what_to_type(run):
    run.why.unlink()
    assert any("amc prune" in item.sentence for item in gather(run).missing if item.file == "why.json")
    assert "What each width costs and saves" in write_report(run).read_text(encoding="utf-8")


def test_a_bare_file_is_held_against_its_masked_self(run):
    write_json(run.summary, {"parity": 1e-7})
    assert "PyTorch against ONNX Runtime" in dict(gather(run).conditions)
    write_text(run.config, dump(RunConfig(model={"name": "net.onnx"})))
    assert "Masked against pruned network" in dict(gather(run).conditions)


def test_a_network_without_estimates_says_nothing_of_them(run):
    exact = [replace(trial, score=replace(trial.score, images=500)) for trial in read_trials(run.trials)]
    keep_trials(run.trials, exact)
    facts = gather(run)
    assert "estimates" not in facts.contest + search_figures.trials(facts.search, None, None).description

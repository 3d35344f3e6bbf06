"""What the report derives: budget, verdict, standard errors, agents. Each against numbers worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from amc_mobile.cost import formulas
from amc_mobile.report.facts import gather
from amc_mobile.report.tables import key_caption, key_rows
from amc_mobile.runs import append_trial, read_json, read_trials, write_json
from amc_mobile.trials import SearchResult
from amc_mobile.types import Budget

from .fake_run import DEVICE, comparison, network


def test_standard_error_is_that_of_a_share(run):
    accuracy = gather(run).accuracy
    assert accuracy.before_error == pytest.approx(math.sqrt(0.989 * 0.011 / 450))
    assert accuracy.after == 0.9867
    assert accuracy.rows[-1].top5_error == pytest.approx(math.sqrt(0.998 * 0.002 / 450))


def test_counts_equal_the_formulas_and_layers_add_up(run):
    facts, graph = gather(run), network()
    kept = tuple(read_json(run.policy)["kept"])
    assert facts.sizes.macs_before == formulas.macs(graph, graph.full().kept)
    assert facts.sizes.macs_after == formulas.macs(graph, kept)
    assert sum(layer.macs_after for layer in facts.structure.layers) == facts.sizes.macs_after
    assert facts.sizes.bytes_after == 151_002


def test_groups_are_split_into_pruned_and_pinned(run):
    structure = gather(run).structure
    assert [row.name for row in structure.pinned] == ["input", "classifier"]
    assert [row.reason for row in structure.pinned] == ["the network's input", "the network's output"]
    assert all(0 < row.kept < row.channels for row in structure.groups)


@pytest.mark.parametrize(
    ("measured_over_limit", "standing", "words"),
    [(0.97, "held", "Held, with 3.0"), (1.0213, "exceeded", "Exceeded by 2.1")],
)
def test_the_budget_is_judged_by_the_clock(run, measured_over_limit, standing, words):
    limit = read_json(run.search)["budget"]["limit"]
    found = comparison(2 * limit, limit, limit * 0.99)
    write_json(run.comparison, replace(found, latency_after_us=limit * measured_over_limit))
    facts = gather(run)
    assert facts.budget.standing == standing
    assert facts.budget.excess == pytest.approx(measured_over_limit - 1)
    assert words in facts.budget_sentence.replace("\xa0", " ")


@pytest.mark.parametrize(("measured_over_limit", "words"), [(1.001, "Exceeded by"), (0.999, "Held, with")])
def test_what_is_within_the_noise_says_so(run, measured_over_limit, words):
    limit = read_json(run.search)["budget"]["limit"]
    found = comparison(2 * limit, limit, limit)
    write_json(run.comparison, replace(found, latency_after_us=limit * measured_over_limit))
    said = gather(run).budget_sentence
    assert said.startswith(words) and "between rounds" in said


def test_a_budget_of_macs_is_counted_not_measured(run):
    best = max(read_trials(run.trials), key=lambda trial: trial.reward)
    kept = tuple(read_json(run.policy)["kept"])
    limit = formulas.macs(network(), kept) + 1.0
    write_json(run.search, SearchResult(Budget("macs", limit), best, (), 3))
    facts = gather(run)
    assert (facts.budget.standing, facts.budget.measured) == ("held", None)
    assert "counted exactly" in facts.budget_sentence
    assert facts.search.metric == "macs"


def test_an_emulated_device_earns_no_speed_claim(run):
    write_json(run.comparison, comparison(500.0, 250.0, 249.0, replace(DEVICE, emulated=True)))
    facts = gather(run)
    assert facts.verdict.startswith("No speed claim")
    assert "faster" not in facts.verdict
    assert (facts.budget.standing, facts.budget.measured) == ("emulated", None)
    assert any("emulated" in note for note in facts.notes)


@pytest.mark.parametrize(
    ("interval", "claim"), [((1.1, 1.2), "1.15x faster"), ((0.95, 1.3), "No measurable"), ((0.8, 0.9), "Slower")]
)
def test_the_claim_follows_the_interval(run, interval, claim):
    found = comparison(500.0, 250.0, 249.0)
    write_json(run.comparison, replace(found, speedup=sum(interval) / 2, speedup_ci=interval))
    assert gather(run).verdict.startswith(claim)


def test_without_a_comparison_only_the_prediction_is_told(run):
    run.comparison.unlink()
    facts = gather(run)
    assert "speed not measured yet" in facts.verdict
    assert facts.budget.standing == "predicted"


def test_agents_are_ranked_under_the_budget(run):
    search = gather(run).search
    assert [row.agent for row in search.agents][:3] == ["ddpg", "greedy", "sensitivity"]
    assert [row.chosen for row in search.agents].count(True) == 1
    assert {row.agent: row.trials for row in search.agents} == dict.fromkeys(
        ("deep", "greedy", "random", "sensitivity", "shallow", "uniform"), 1
    ) | {"ddpg": 16}
    assert search.episodes == 16
    assert search.local_episodes == 7


def test_a_policy_over_the_budget_never_leads(run):
    trials = read_trials(run.trials)
    limit = read_json(run.search)["budget"]["limit"]
    append_trial(
        run.trials,
        replace(trials[0], agent="cheat", reward=0.0, cost=replace(trials[0].cost, latency_us=limit * 1.01)),
    )
    last = gather(run).search.agents[-1]
    assert (last.agent, last.within) == ("cheat", False)


def test_an_opponent_that_wins_is_named(run):
    result = read_json(run.search)
    winner = next(trial for trial in result["opponents"] if trial["agent"] == "greedy")
    write_json(run.search, result | {"best": winner})
    facts = gather(run)
    assert facts.search.agent == "greedy"
    assert any("“greedy”, not by reinforcement learning" in note for note in facts.notes)


def test_a_change_is_judged_image_by_image(run):
    accuracy = read_json(run.accuracy)
    write_json(
        run.accuracy, accuracy | {"change_ci": {"fp32": [-0.0091, -0.0011], "int8": None}, "lead_ci": [-0.01, 0.02]}
    )
    facts = gather(run)
    change, lead = (note for note in facts.notes if "image by image" in note)
    assert "(95\xa0%, image by image): more than the choice of images explains" in change
    assert "−0.9 to −0.1" in change
    assert lead.startswith("The lead over uniform pruning")
    assert "cannot tell it from none" in lead
    assert any(row.change.endswith("(−0.9 to −0.1)") for row in key_rows(facts))
    assert "95 % interval, image by image" in key_caption(facts)


def test_without_answers_image_by_image_nothing_is_claimed_of_a_change(run):
    write_json(run.accuracy, {**read_json(run.accuracy), "change_ci": {}, "lead_ci": None})
    assert not any("image by image" in note for note in gather(run).notes)


def test_the_table_reports_its_own_error(run):
    facts = gather(run)
    assert facts.table.carriers == len(facts.table.points) > 3
    assert facts.table.max_error >= facts.table.mape > 0
    assert all(layer.after_us <= layer.before_us for layer in facts.structure.layers)


def test_a_table_from_elsewhere_is_pointed_out(run):
    assert "Latency table" not in dict(gather(run).conditions)
    write_json(run.comparison, comparison(500.0, 250.0, 249.0, replace(DEVICE, threads=2)))
    assert "AMD EPYC 9B14" in dict(gather(run).conditions)["Latency table"]


def test_conditions_name_what_must_be_known(run):
    conditions = dict(gather(run).conditions)
    assert "onnxruntime 1.32.0" in conditions["Runtime"]
    assert conditions["Seed"] == "7"
    assert conditions["Model SHA-256"] == "ab" * 32
    assert "2.60–3.10 GHz, governor performance" in conditions["State, pruned"]

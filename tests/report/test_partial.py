"""Reports of runs that are not finished, or whose files are damaged."""

from __future__ import annotations

import json

import pytest

from amc_mobile.errors import AmcError, RunFolderError
from amc_mobile.report.write import summary_lines, write_report
from amc_mobile.runs import RunFolder, read_json, write_json

from .fake_run import network
from .pages import Page

OPTIONAL = {
    "table": "amc profile",
    "trials": "amc search",
    "search": "amc search",
    "policy": None,  # the winner of the search stands in for it
    "accuracy": "amc report",
    "comparison": "amc bench",
    "summary": None,  # only repeats and decorates
    "config": "amc run",
}


@pytest.mark.parametrize("name", OPTIONAL)
def test_a_missing_file_drops_its_section_and_names_the_command(run, name):
    getattr(run, name).unlink()
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert page.faults == []
    if OPTIONAL[name]:
        assert OPTIONAL[name] in page.text
    assert summary_lines(run)


STAGES = ["table", "trials", "search", "policy", "accuracy", "comparison", "summary"]


@pytest.mark.parametrize("done", range(1, len(STAGES)))
def test_a_run_that_stopped_after_any_stage_makes_a_report(run, done):
    for name in STAGES[done:]:
        getattr(run, name).unlink()
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert page.faults == []
    assert page.values("role").count("img") == [1, 3, 5, 5, 5, 7][done - 1]


def test_a_bare_graph_is_enough(tmp_path):
    folder = RunFolder(tmp_path).create()
    write_json(folder.graph, {"network": network(), "model_sha256": "00"})
    text = Page(write_report(folder).read_text(encoding="utf-8")).text
    assert "Nothing measured yet" in text
    assert all(command in text for command in OPTIONAL.values() if command)


def test_without_a_graph_the_error_says_what_to_type(run):
    run.graph.unlink()
    with pytest.raises(RunFolderError, match=r"graph\.json.*amc"):
        write_report(run)


def test_an_unfinished_search_is_shown_as_far_as_it_went(run):
    run.search.unlink()
    run.policy.unlink()
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert "The search has not ended" in page.text
    assert "figure-rewards" in page.values("id")


@pytest.mark.parametrize("name", ["graph", "table", "search", "policy", "accuracy", "comparison", "summary", "trials"])
def test_a_damaged_file_is_named_in_one_line(run, name):
    path = getattr(run, name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] + b'"}\n')
    with pytest.raises(AmcError, match=path.stem) as caught:
        write_report(run)
    assert "\n" not in str(caught.value)
    assert not run.report.exists()


@pytest.mark.parametrize("name", ["graph", "search", "policy", "accuracy", "comparison"])
def test_a_file_of_another_shape_is_named_in_one_line(run, name):
    write_json(getattr(run, name), ["something", "else"])
    with pytest.raises(RunFolderError, match=name) as caught:
        write_report(run)
    assert "\n" not in str(caught.value)


def test_a_policy_of_another_network_is_refused(run):
    write_json(run.policy, {"kept": [1, 2]})
    with pytest.raises(RunFolderError, match="2 widths"):
        write_report(run)


def test_a_summary_with_unknown_shapes_is_tolerated(run):
    write_json(run.summary, {"seconds": 12, "commands": "amc demo", "versions": None, "parity": "?", "more": []})
    facts = json.loads(write_report(run).with_suffix(".json").read_text(encoding="utf-8"))
    assert facts["seconds"] == [["total", "12\u00a0s"]]
    assert facts["commands"] == ["amc demo"]


def test_settings_of_another_version_are_shown_as_text_only(run):
    run.config.write_text("from_the_future = 1\n", encoding="utf-8")
    assert "from_the_future" in Page(write_report(run).read_text(encoding="utf-8")).text


def test_networks_that_were_not_tested_are_left_out(run):
    accuracy = read_json(run.accuracy)
    untested = dict.fromkeys(("finetuned", "uniform", "original_int8", "int8", "uniform_int8"))
    write_json(run.accuracy, accuracy | untested)
    facts = json.loads(write_report(run).with_suffix(".json").read_text(encoding="utf-8"))
    assert [row["label"] for row in facts["accuracy"]["rows"]] == ["original", "pruned and repaired"]
    assert facts["accuracy"]["after"] == accuracy["pruned"]["top1"]

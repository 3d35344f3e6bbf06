"""Any trial of a search can be cut, exported and explained, not only the winner."""

from __future__ import annotations

import json

import onnx

from amc_mobile.runs import read_json, read_trials


def test_the_front_is_written_and_printed(amc, run_folder, tiny):
    line = ("search", "--config", tiny, "--out", run_folder, "--pareto")
    shown = amc(*line, "--json").json()
    assert shown == read_json(run_folder / "pareto.json")
    assert {"latency_us", "macs", "params", "bytes"} <= shown["metrics"].keys()
    trials = read_trials(run_folder / "trials.jsonl")
    for indices in shown["metrics"].values():
        assert indices and {point["trial"] for point in shown["points"]} >= set(indices)
        assert [trials[index].score.top1 for index in indices] == sorted(trials[index].score.top1 for index in indices)
    text = amc(*line).out
    assert "latency" in text.splitlines()[0] and f"amc prune {run_folder} --point N" in text


def test_a_point_is_cut_exported_benchmarked_and_taken_back(amc, run_folder, tiny, tmp_path):
    trials = read_trials(run_folder / "trials.jsonl")
    winner = read_json(run_folder / "search.json")["best"]
    other = next(trial for trial in trials if list(trial.kept) != winner["kept"])
    answer = amc("export", run_folder, "--point", other.index, "--out", tmp_path / "point.onnx", "--json")
    assert answer.code == 0, answer.err
    assert answer.json()["macs_after"] == other.cost.macs
    assert read_json(run_folder / "policy.json")["kept"] == list(other.kept)
    onnx.checker.check_model(onnx.load(tmp_path / "point.onnx"))
    assert "bench is not done" in amc("report", run_folder).last_line  # the book knows that it is another network
    assert amc("bench", run_folder).code == 0
    report = amc("report", run_folder, "--json").json()
    assert report["macs_after"] == other.cost.macs and report["point"] == other.index
    assert f"trial {other.index}" in (run_folder / "report.md").read_text(encoding="utf-8")
    assert amc("search", "--config", tiny, "--out", run_folder).err.count("done before") == 7
    assert amc("prune", run_folder).code == 0
    assert read_json(run_folder / "policy.json")["kept"] == winner["kept"]


def test_a_point_that_is_none_names_those_that_are(amc, run_folder):
    before = (run_folder / "search.json").read_bytes()
    answer = amc("prune", run_folder, "--point", 999)
    assert answer.code == 1
    assert "has no trial 999" in answer.last_line and "0.." in answer.last_line
    assert (run_folder / "search.json").read_bytes() == before


def test_why_says_what_every_width_costs_and_saves(amc, run_folder):
    shown = amc("why", run_folder, "--json").json()
    graph = read_json(run_folder / "graph.json")["network"]
    names = [group["name"] for group in graph["groups"] if group["prunable"]]
    assert [reason["group"] for reason in shown["groups"]] == names
    measured = {item["group"] for item in read_json(run_folder / "sensitivity.json")["groups"]}
    for reason in shown["groups"]:
        assert (reason["alone"]["loss"] is not None) == (reason["group"] in measured)
        assert reason["alone"]["latency_us"] >= 0 and reason["alone"]["macs"] >= 0
        for step, sign in ((reason["wider"], -1), (reason["narrower"], 1)):
            assert step is None or sign * step["macs"] > 0
    assert shown == json.loads((run_folder / "why.json").read_text(encoding="utf-8"))
    text = amc("why", run_folder).out
    assert all(name in text for name in names) and "the winner of the search" in text

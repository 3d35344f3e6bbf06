"""Several limits at once, from the command line to the report."""

from __future__ import annotations

import json

import pytest

from amc_mobile.cost.table import LatencyTable
from amc_mobile.runs import RunFolder, read_trials


@pytest.fixture
def pixel(run_folder, tmp_path):
    """The table of the finished run, as if another device had it."""
    path = tmp_path / "pixel.json"
    table = LatencyTable.load(run_folder / "table.json")
    table.save(path)
    return path


def limits_of(folder):
    search = json.loads((folder / "search.json").read_text())
    return [(each["metric"], each["device"], each["limit"]) for each in (search["budget"], *search["further"])]


def test_every_limit_holds_and_is_shown(amc, run_folder, tiny, pixel):
    line = ["--config", tiny, "--latency", "0.8", "--bytes", "3MB", "--memory", "0.9", "--also", f"{pixel}=0.7"]
    answer = amc("search", *line, "--update", "--out", run_folder)
    assert answer.code == 0, answer.err
    limits = limits_of(run_folder)
    device = LatencyTable.load(pixel).device.name
    assert [(metric, name) for metric, name, _ in limits] == [
        ("latency_us", ""),
        ("bytes", ""),
        ("memory_bytes", ""),
        ("latency_us", device),
    ]
    assert limits[1][2] == 3_000_000
    for trial in read_trials(RunFolder(run_folder).trials):
        for metric, name, limit in limits:
            assert (trial.cost.elsewhere_us[name] if name else getattr(trial.cost, metric)) <= limit
    for words in ("latency at most", "file size at most 3.00 MB", "activation memory at most", f"latency on {device}"):
        assert words in answer.out


def test_the_summary_lists_what_was_reached(amc, run_folder, tiny, pixel):
    text = tiny.read_text().replace("latency = 0.6", "bytes = '3MB'\nparams = 0.8")
    config = tiny.with_name("two.toml")
    config.write_text(text + f"[[budget.also]]\ntable = {json.dumps(str(pixel))}\nlatency = 0.7\nname = 'pixel'\n")
    assert amc("run", config, "--out", run_folder, "--update").code == 0
    summary = json.loads((run_folder / "summary.json").read_text())
    assert (summary["metric"], summary["limit"], summary["fraction"]) == ("params", summary["limits"][0]["limit"], 0.8)
    assert [(each["metric"], each["device"], each["fraction"]) for each in summary["limits"]] == [
        ("params", "", 0.8),
        ("bytes", "", None),
        ("latency_us", "pixel", 0.7),
    ]
    assert all(each["reached"] <= each["limit"] for each in summary["limits"])
    assert summary["limits"][0]["reached"] == summary["params_after"]
    report = (run_folder / "report.md").read_text().replace("\xa0", " ")
    assert "asked for at most 3.00 MB" in report
    assert "on pixel" in report
    assert "Activations, peak" in report


def test_a_table_of_another_network_is_refused(amc, run_folder, tiny, pixel):
    from dataclasses import replace

    replace(LatencyTable.load(pixel), model_sha256="ab" * 32).save(pixel)
    answer = amc(
        "search", "--config", tiny, "--latency", "0.8", "--also", f"{pixel}=0.7", "--update", "--out", run_folder
    )
    assert answer.code != 0
    assert "belongs to another network" in answer.last_line


def test_two_devices_of_one_name_must_be_told_apart(amc, run_folder, tiny, pixel):
    twice = ["--also", f"{pixel}=0.7", "--also", f"{pixel}=20ms"]
    answer = amc("search", "--config", tiny, *twice, "--update", "--out", run_folder)
    assert "a name of its own" in answer.last_line

"""Finished runs beside each other: on one clock, with intervals, and only if they belong together."""

from __future__ import annotations

from dataclasses import replace

import pytest

from amc_mobile.config import RunConfig, dump
from amc_mobile.errors import RunFolderError
from amc_mobile.report.clock_figure import ORIGINAL
from amc_mobile.report.comparing import compare_runs, method_of, table_rows
from amc_mobile.runs import RunFolder, read_json, write_json, write_text

from .fake_run import DEVICE, comparison, network, write_run


def run_at(root, *, before_us: float = 800.0, share: float = 0.5, agent: str = "auto", device=DEVICE) -> RunFolder:
    run = write_run(RunFolder(root), network())
    write_text(run.config, dump(RunConfig(budget={"latency": share}, search={"agent": agent})))
    write_json(run.comparison, comparison(before_us, before_us * share, before_us * share, device, network()))
    return run


def test_runs_of_different_days_come_to_one_clock(tmp_path):
    """The machine was a tenth slower in the second run, all networks alike."""
    runs = [run_at(tmp_path / "a"), run_at(tmp_path / "b", before_us=880.0)]
    compared = compare_runs(runs)
    first, second = (
        point.latency_us
        for point in compared.points
        if (point.method, point.precision) == ("AMC under latency", "fp32")
    )
    assert second == pytest.approx(first, rel=1e-4)
    assert compared.runs[0].clock / compared.runs[1].clock == pytest.approx(1.1, rel=1e-4)


def test_the_original_stands_once_in_each_precision_and_every_network_with_its_interval(tmp_path):
    compared = compare_runs([run_at(tmp_path / "a"), run_at(tmp_path / "b", share=0.7, agent="uniform")])
    assert [(point.method, point.precision, point.label) for point in compared.points] == [
        (ORIGINAL, "fp32", ""),
        (ORIGINAL, "int8", ""),
        ("AMC under latency", "fp32", "50%"),
        ("AMC under latency", "int8", "50%"),
        ("uniform", "fp32", "70%"),
        ("uniform", "int8", "70%"),
    ]
    for point in compared.points:
        assert point.accuracy_ci[0] < point.accuracy < point.accuracy_ci[1]
        assert point.latency_ci[0] <= point.latency_us <= point.latency_ci[1]
    assert [row[4] for row in table_rows(compared.points, compared.device)][1] == "1.00x"


def test_an_emulator_claims_no_speed(tmp_path):
    compared = compare_runs([run_at(tmp_path / "a", device=replace(DEVICE, emulated=True))])
    assert {row[4] for row in table_rows(compared.points, compared.device)[1:]} == {"–"}
    assert compared.on.startswith("EMULATED")


def test_a_run_in_int8_has_points_in_int8_only(tmp_path):
    run = run_at(tmp_path / "a", device=replace(DEVICE, precision="int8"))
    stored = read_json(run.comparison)
    write_json(
        run.comparison, {key: None if "int8" in key and "sha" not in key else value for key, value in stored.items()}
    )
    beside = run_at(tmp_path / "b")
    assert {point.precision for point in compare_runs([run]).points} == {"int8"}
    assert {point.precision for point in compare_runs([run, beside]).points} == {"fp32", "int8"}


@pytest.mark.parametrize("what", ["network", "device", "number of test images", "original", "test set"])
def test_runs_that_do_not_belong_together_are_refused(tmp_path, what):
    first, second = run_at(tmp_path / "a"), run_at(tmp_path / "b")
    if what == "network":
        write_json(second.graph, read_json(second.graph) | {"model_sha256": "cd" * 32})
    elif what == "device":
        write_json(second.comparison, comparison(800.0, 400.0, 400.0, replace(DEVICE, threads=2), network()))
    elif what == "original":
        second.original_onnx.write_bytes(b"other weights")
    else:
        changed = {"test_images": 7} if what == "number of test images" else {"original": {"top1": 0.98, "top5": 1.0}}
        write_json(second.accuracy, read_json(second.accuracy) | changed)
    with pytest.raises(RunFolderError, match=f"another {what}"):
        compare_runs([first, second])


@pytest.mark.parametrize(("missing", "verb"), [("comparison", "bench"), ("accuracy", "report")])
def test_an_unfinished_run_names_the_command_that_goes_on(tmp_path, missing, verb):
    run = run_at(tmp_path / "a")
    getattr(run, missing).unlink()
    with pytest.raises(RunFolderError, match=f"amc {verb} "):
        compare_runs([run])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"budget": {"macs": 0.65}}, ("AMC under MACs", "65%")),
        ({"budget": {"latency": "20ms"}}, ("AMC under latency", "20ms")),
        ({"budget": {"macs": 0.5}, "search": {"agent": "uniform"}}, ("uniform", "50%")),
        ({"search": {"protocol": "accuracy"}}, ("AMC, guaranteed accuracy", "−1.0%")),
    ],
)
def test_a_run_is_called_by_what_made_it(settings, words):
    assert method_of(RunConfig.model_validate(settings)) == words

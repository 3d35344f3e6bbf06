"""What the report says of the networks in int8: beside the float ones, or where the whole run is about them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from amc_mobile.report.facts import gather
from amc_mobile.report.tables import key_rows
from amc_mobile.report.write import summary_lines, write_report
from amc_mobile.runs import RunFolder, read_json, write_json

from .fake_run import DEVICE, comparison, network, write_run


@pytest.fixture
def run(tmp_path) -> RunFolder:
    return write_run(RunFolder(tmp_path / "run"), network())


def rows(run) -> dict[str, tuple[str, str, str]]:
    found = key_rows(gather(run))
    return {
        row.name: tuple(cell.replace("\u00a0", " ") for cell in (row.before, row.after, row.change)) for row in found
    }


def test_time_and_accuracy_in_int8_stand_beside_those_in_float(run):
    found = rows(run)
    assert list(found)[:4] == ["Latency", "Latency in int8", "Top-1 accuracy", "Top-1 accuracy in int8"]
    assert found["Top-1 accuracy in int8"] == ("98.8 % ±0.5", "98.4 % ±0.6", "−0.4 points")
    assert found["Top-1 accuracy"][0] == "98.9 % ±0.5"
    assert found["Latency in int8"][2].endswith("x")
    labels = [row.label for row in gather(run).accuracy.rows]
    assert labels[-3:] == ["original, int8", "what ships, fine-tuned, int8", "uniform pruning, repaired, int8"]
    text = write_report(run).with_suffix(".md").read_text(encoding="utf-8").replace("\u00a0", " ")
    assert "| Original, int8 | Pruned, int8 |" in text
    assert "100 calibration images" in text and "7 bits per channel" in text
    assert any("Top-1 accuracy in int8" in line for line in summary_lines(run))


def test_a_run_on_an_int8_device_is_judged_by_its_int8_networks(run):
    found = comparison(500.0, 250.0, 249.0, replace(DEVICE, precision="int8"), network())
    none = dict.fromkeys(("int8", "latency_int8_us", "speedup_int8", "speedup_int8_ci", "original_int8"))
    write_json(run.comparison, replace(found, **none))
    write_json(run.accuracy, read_json(run.accuracy) | {"precision": "int8"})
    facts = gather(run)
    assert (facts.accuracy.before, facts.accuracy.after, facts.accuracy.uniform) == (0.988, 0.984, 0.949)
    assert "98.8 % → 98.4 % top-1 in int8" in facts.verdict.replace("\u00a0", " ")
    assert list(rows(run))[:3] == ["Latency in int8", "Top-1 accuracy in int8", "Top-1 accuracy in fp32"]
    assert any("model.int8.onnx is the file that ships" in note for note in facts.notes)


def test_a_network_that_cannot_be_quantised_costs_one_line(run):
    write_json(
        run.int8, read_json(run.int8) | {"made": False, "failed": "ONNX Runtime cannot quantise this network: Einsum"}
    )
    tested = read_json(run.accuracy)
    write_json(run.accuracy, {key: None if "int8" in key else value for key, value in tested.items()})
    facts = gather(run)
    assert facts.accuracy.int8 is None
    assert [note for note in facts.notes if "Einsum" in note] == [
        "There is nothing in int8: ONNX Runtime cannot quantise this network: Einsum."
    ]


def test_a_device_that_timed_another_int8_network_is_called_so(run):
    run.model_onnx.write_bytes(b"float")
    run.model_int8.write_bytes(b"now")
    run.devices.mkdir()
    found = comparison(500.0, 250.0, 249.0, replace(DEVICE, name="pixel", model="Pixel"), network())
    write_json(run.device_comparison("pixel"), replace(found, int8_sha256=run.int8_sha256()))
    assert not gather(run).devices[1].stale
    run.model_int8.write_bytes(b"later")
    assert gather(run).devices[1].stale

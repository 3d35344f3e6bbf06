"""Networks in int8 through the whole job: beside the float ones, or as what the search is for."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import onnx
import pytest

from amc_mobile.cli import main
from amc_mobile.errors import GraphError
from amc_mobile.runs import read_json

FILES = ("original.int8.onnx", "model.int8.onnx")


def operators(path: Path) -> set[str]:
    return {node.op_type for node in onnx.load(path).graph.node}


def test_both_networks_are_written_tested_and_timed(amc, finished):
    assert all("QuantizeLinear" in operators(finished / name) for name in FILES)
    how = read_json(finished / "int8.json")
    assert (how["made"], how["method"], how["images"], how["weight_bits"]) == (True, "minmax", 12, 7)
    tested, timed = read_json(finished / "accuracy.json"), read_json(finished / "comparison.json")
    assert tested["precision"] == "fp32"
    assert all(0.0 <= tested[name]["top1"] <= 1.0 for name in ("original_int8", "int8", "uniform_int8"))
    assert timed["latency_original_int8_us"] > 0 and timed["latency_int8_us"] > 0 and timed["failed"] == {}
    assert timed["int8_sha256"] == hashlib.sha256((finished / FILES[1]).read_bytes()).hexdigest()
    facts = amc("report", finished, "--json").json()
    assert facts["accuracy_after_int8"] == tested["int8"]["top1"]
    assert facts["latency_after_int8_us"] == timed["latency_int8_us"]
    assert facts["onnx_int8"] == str(finished / FILES[1])
    assert "in int8" in amc("bench", finished).out


def test_a_lost_file_is_made_again_bit_for_bit(amc, run_folder):
    before = (run_folder / FILES[1]).read_bytes()
    (run_folder / FILES[1]).unlink()
    assert amc("export", run_folder).code == 0
    assert (run_folder / FILES[1]).read_bytes() == before


def test_a_network_that_cannot_be_quantised_loses_nothing_else(amc, run_folder, tiny, tmp_path, monkeypatch):
    from amc_mobile.export import quantise

    def refuse(*_: object) -> None:
        raise GraphError("ONNX Runtime cannot quantise this network: Einsum")

    monkeypatch.setattr(quantise, "quantise", refuse)
    other = tmp_path / "other.toml"
    other.write_text(tiny.read_text(encoding="utf-8") + '[int8]\nmethod = "mse"\n', encoding="utf-8")
    answer = amc("run", other, "--out", run_folder, "--update", "--json")
    assert answer.code == 0, answer.err
    assert answer.json()["accuracy_after_int8"] is None and answer.json()["speedup"] > 0
    assert read_json(run_folder / "comparison.json")["failed"]["int8"].endswith("Einsum")
    assert not any((run_folder / name).exists() for name in FILES)
    assert "Einsum" in (run_folder / "report.md").read_text(encoding="utf-8")
    assert "complete" in amc("run", other, "--out", run_folder).err


def test_without_int8_there_is_none(amc, run_folder, tiny, tmp_path):
    other = tmp_path / "other.toml"
    other.write_text(tiny.read_text(encoding="utf-8") + "[int8]\nenabled = false\n", encoding="utf-8")
    assert amc("run", other, "--out", run_folder, "--update").code == 0
    assert read_json(run_folder / "accuracy.json")["int8"] is None
    assert read_json(run_folder / "comparison.json")["int8"] is None
    assert not any((run_folder / name).exists() for name in FILES)
    assert "complete" in amc("run", other, "--out", run_folder).err
    answer = amc("bench", run_folder, "--precision", "int8")
    assert answer.code == 1
    assert "int8.enabled is false" in answer.last_line


def test_the_runs_device_in_int8_times_the_same_files(amc, run_folder):
    assert amc("bench", run_folder, "--precision", "int8").code == 0
    timed = read_json(run_folder / "devices" / "host-int8.json")
    assert timed["device"]["precision"] == "int8" and timed["int8"] is None
    assert timed["bytes"] == {
        "original": (run_folder / FILES[0]).stat().st_size,
        "pruned": (run_folder / FILES[1]).stat().st_size,
    }


def test_runs_are_compared(amc, finished, tmp_path):
    answer = amc("compare", finished, finished, "--out", tmp_path / "clock.svg", "--json")
    assert answer.code == 0, answer.err
    assert {point["precision"] for point in answer.json()["points"]} == {"fp32", "int8"}
    assert (tmp_path / "clock.svg").read_text(encoding="utf-8").startswith("<svg ")
    assert "AMC under latency" in amc("compare", finished).out
    assert amc("compare", finished, "--out", tmp_path / "clock.gif").last_line.endswith(".svg, .png")
    assert "is not finished" in amc("compare", shutil.copytree(finished, tmp_path / "run", ignore=_no_comparison)).err


def _no_comparison(_folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name == "comparison.json"]


@pytest.fixture(scope="session")
def in_int8(tmp_path_factory, tiny) -> Path:
    """A whole run whose budget is the latency in int8. Read it only."""
    config = tmp_path_factory.mktemp("config") / "int8.toml"
    config.write_text(tiny.read_text(encoding="utf-8") + '[device]\nprecision = "int8"\n', encoding="utf-8")
    folder = tmp_path_factory.mktemp("int8") / "run"
    assert main.run(["run", str(config), "--out", str(folder)]) == 0
    return folder


@pytest.mark.slow
def test_a_search_under_an_int8_table_is_about_int8_throughout(amc, in_int8):
    table, timed = read_json(in_int8 / "table.json"), read_json(in_int8 / "comparison.json")
    assert table["device"]["precision"] == timed["device"]["precision"] == "int8"
    assert read_json(in_int8 / "settled.json")["checks"]
    assert timed["int8"] is None and timed["predicted_us"] > 0
    assert timed["bytes"]["pruned"] == (in_int8 / FILES[1]).stat().st_size
    tested = read_json(in_int8 / "accuracy.json")
    facts = amc("report", in_int8, "--json").json()
    assert (facts["accuracy_before"], facts["accuracy_after"]) == (
        tested["original_int8"]["top1"],
        tested["int8"]["top1"],
    )
    assert facts["precision"] == "int8" and facts["latency_after_us"] == facts["latency_after_int8_us"]
    assert "in int8" in (in_int8 / "report.md").read_text(encoding="utf-8").splitlines()[2]


@pytest.mark.slow
def test_what_ships_from_it_is_the_int8_file_and_it_is_resumed(amc, in_int8, tmp_path):
    folder = Path(shutil.copytree(in_int8, tmp_path / "run"))
    assert "complete" in amc("run", folder / "config.toml", "--out", folder).err
    assert amc("export", folder, "--out", tmp_path / "ships.onnx").code == 0
    assert (tmp_path / "ships.onnx").read_bytes() == (folder / FILES[1]).read_bytes()
    for name in (*FILES, "int8.json", "comparison.json"):
        (folder / name).unlink()
    assert amc("bench", folder).code == 0
    assert all((folder / name).read_bytes() == (in_int8 / name).read_bytes() for name in FILES)


@pytest.mark.slow
def test_a_table_in_int8_says_how_to_use_it(amc, in_int8, tiny, tmp_path):
    line = ("search", "--config", tiny, "--table", in_int8 / "table.json", "--episodes", 1)
    refused = amc(*line, "--out", tmp_path / "float")
    assert refused.code == 1 and "--precision int8" in refused.last_line
    assert amc(*line, "--precision", "int8", "--out", tmp_path / "int8").code == 0

"""Whatever is wrong: one clear line, the right exit code, nothing half-written."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from amc_mobile.cli import networks
from amc_mobile.cli.lock import locked
from amc_mobile.cost.table import LatencyTable
from amc_mobile.errors import ConfigError

USER, USAGE, DEVICE, UNSTABLE = 1, 2, 3, 4


@pytest.fixture
def places(tmp_path, tiny, finished, weights) -> dict[str, object]:
    """Files that are wrong in every way, by the names that the table below uses."""
    (tmp_path / "file").write_text("not a folder", encoding="utf-8")
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "broken.onnx").write_bytes(b"not onnx")
    (tmp_path / "wrong.toml").write_text("[search]\nepisodes = 0\ncolour = 1", encoding="utf-8")
    np.savez(tmp_path / "none.npz", images=np.zeros((0, 8, 8), np.uint8), labels=np.zeros(0, np.uint8))
    images = np.zeros((200, 8, 8), np.uint8)
    np.savez(tmp_path / "labels.npz", images=images, labels=np.arange(200, dtype=np.int64))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep me", encoding="utf-8")
    table = json.loads((finished / "table.json").read_text(encoding="utf-8"))
    (tmp_path / "cut.json").write_text(json.dumps(table)[:-20], encoding="utf-8")
    (tmp_path / "changed.json").write_text(json.dumps({**table, "rest_us": 0.125}), encoding="utf-8")
    shutil.copyfile(finished / "table.csv", tmp_path / "changed.csv")
    whole = LatencyTable.load(finished / "table.json")
    for name, noise in (("wrong", 0.001), ("noisy", 0.15)):  # how noisy the clock was when this test ran is no matter
        replace(whole, validation=replace(whole.validation, mape=0.2, noise_floor=noise)).save(
            tmp_path / f"{name}.json"
        )
    shutil.copytree(finished, tmp_path / "run")
    return {"here": tmp_path, "tiny": tiny, "weights": weights, "finished": finished}


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("graph mobilnet_v2", USER, "did you mean mobilenet_v2"),
        ("graph nowhere.module:function", USER, "nowhere"),
        ("graph {here}/none.onnx", USER, "give the path of an ONNX file"),
        ("graph {here}/broken.onnx", USER, "broken.onnx cannot be read as ONNX"),
        ("search --config {tiny} --model digitz --out {here}/new", USER, "did you mean digits"),
        ("search --config {tiny} --model {here}/a.onnx --out {here}/new", USER, "give the path of an ONNX file"),
        ("search --config {tiny} --agent ddgp --out {here}/new", USER, "search.agent"),
        ("search --config {tiny} --protocol both --out {here}/new", USER, "search.protocol"),
        ("search --config {tiny} --max-loss 2 --out {here}/new", USER, "search.max_loss"),
        ("search --config {tiny} --max-loss few --out {here}/new", USAGE, "--max-loss"),
        ("search --config {tiny} --reward top3 --out {here}/new", USER, "search.reward"),
        ("search --config {tiny} --granularity layer --out {here}/new", USER, "search.granularity"),
        ("search --config {tiny} --evaluations 0 --out {here}/new", USER, "search.evaluations"),
        ("search --config {tiny} --evaluator jax --out {here}/new", USER, "search.evaluator"),
        ("search --config {tiny} --importance l3 --out {here}/new", USER, "prune.importance"),
        ("why {here}/full", USER, "is no run folder"),
        ("export {finished} --point -1", USAGE, "--point"),
        ("search --config {tiny} --model resnet20 --weights {weights} --out {here}/new", USER, "digits.pt"),
        ("search --config {tiny} --weights {here}/none.pt --out {here}/new", USER, "there are no weights at"),
        ("search --config {tiny} --weights {here}/empty.pt --out {here}/new", USER, "empty.pt"),
        ("search --config {tiny} --data {here}/none.zip --out {here}/new", USER, "there are no images at"),
        ("search --config {tiny} --data {here}/empty.npz --out {here}/new", USER, "empty.npz"),
        ("search --config {tiny} --data {here}/none.npz --out {here}/new", USER, "none.npz"),
        ("search --config {tiny} --data {here}/labels.npz --out {here}/new", USER, "knows only 10 classes"),
        ("search --config {tiny} --data nothing --out {here}/new", USER, "nothing"),
        ("search --config {tiny} --macs 0.0001 --update --out {here}/run", USER, "budget.macs to 0."),
        ("search --config {tiny} --macs 1.5 --out {here}/new", USER, "budget.macs"),
        ("search --config {tiny} --macs half --out {here}/new", USER, "give a share of the original's from 0 to 1"),
        ("search --config {tiny} --latency 20MB --out {here}/new", USER, "a time (20ms, 800us)"),
        ("search --config {tiny} --bytes 100B --update --out {here}/run", USER, "set budget.bytes to 0."),
        ("search --config {tiny} --also 20ms --out {here}/new", USER, "type it like --also latency_tables/"),
        ("search --config {tiny} --also none.json=20ms --out {here}/new", USER, "cannot read latency table none.json"),
        ("search --config {tiny} --table {here}/cut.json --out {here}/new", USER, "cut.json"),
        ("search --config {tiny} --table {here}/changed.json --out {here}/new", USER, "changed.json"),
        ("search --config {tiny} --table {here}/none.json --out {here}/new", USER, "none.json"),
        ("search --config {tiny} --out {here}/file/run", USER, "choose another with --out"),
        ("search --config {tiny} --out {here}/full", USER, "is no run folder"),
        ("search --config {tiny} --device pixel --out {here}/new", DEVICE, "there is no device 'pixel'"),
        ("search --config {tiny} --device hots --out {here}/new", DEVICE, "did you mean --device host"),
        ("profile --model digits --device pixel", DEVICE, "`amc devices` lists"),
        ("profile --model digits --weights {here}/none.pt", USER, "there are no weights at"),
        ("profile --config {tiny} --model digits --out {here}/file/x", USER, "choose another"),
        ("bench {finished} --device pixel", DEVICE, "`amc devices` lists"),
        ("run {here}/none.toml", USER, "give the path of a TOML file"),
        ("run {here}/wrong.toml", USER, "search.colour"),
        ("run {tiny} --out {here}/new --seed -x", USAGE, "--seed"),
        ("prune {here}/full", USER, "is no run folder"),
        ("report {here}/none", USER, "is no run folder"),
        ("table show {here}/cut.json", USER, "cut.json"),
        ("table show {here}/none.json", USER, "none.json"),
        ("table validate --file-only {here}/wrong.json", USER, "measure again with more networks"),
        ("table validate --file-only {here}/noisy.json", UNSTABLE, "the clock itself varied by 15.0%"),
        ("table validate {here}/none.json", USER, "none.json"),
        ("profile --model digits --device host --precision fp16", DEVICE, "host is measured in fp32 or int8"),
        ("profile --model digits --precision fp7", USER, "device.precision"),
        ("profile --model digits --cores 0,x", USER, "type it like --cores 0,2"),
        ("profile --model digits --cores 99", DEVICE, "cannot use cores [99]"),
        ("profile --model digits --method guess", USER, "profile.method"),
        ("doctor --cores 99", DEVICE, "cannot use cores [99]"),
        ("unknown", USAGE, "unknown"),
        ("run", USAGE, "config"),
    ],
)
def test_one_line_and_an_exit_code(amc, places, line, code, says):
    before = sorted(places["here"].rglob("*"))
    answer = amc(*(part.format(**places) for part in line.split()))
    assert answer.code == code, answer.err
    assert says.lower() in answer.last_line.lower()
    assert not answer.out
    if code != USAGE:
        assert answer.last_line.startswith("amc: ")
    assert "Traceback" not in answer.err
    left = [path for path in places["here"].rglob("*") if path not in before and path.suffix == ".tmp"]
    assert not left


@pytest.mark.parametrize("foreign", ["device", "network"])
def test_a_foreign_table_is_refused_by_what_differs(amc, finished, run_folder, tiny, tmp_path, foreign):
    table = LatencyTable.load(finished / "table.json")
    if foreign == "device":
        table = replace(table, device=replace(table.device, model="Another CPU"))
    else:
        table = replace(table, model_sha256="0" * 64)
    table.save(tmp_path / "foreign.json")
    line = ("search", "--config", tiny, "--table", tmp_path / "foreign.json", "--update", "--out", run_folder)
    answer = amc(*line)
    assert answer.code == USER
    assert ("Another CPU" if foreign == "device" else "another network") in answer.last_line
    assert ("--elsewhere" in answer.last_line) == (foreign == "device")
    assert "amc profile" in answer.last_line


def test_a_latency_below_reach_names_the_reachable_minimum(amc, run_folder, tiny):
    answer = amc("search", "--config", tiny, "--latency", 0.001, "--update", "--out", run_folder)
    assert answer.code == USER
    assert "cannot be pruned to" in answer.last_line and "budget.latency to 0." in answer.last_line


def test_stages_out_of_order_name_the_missing_one(amc, run_folder):
    for file in ("search.json", "policy.json", "weights.pt", "model.onnx", "comparison.json"):
        (run_folder / file).unlink()
    for line, missing in (("prune", "search"), ("finetune", "prune"), ("export", "finetune"), ("bench", "export")):
        answer = amc(line, run_folder, *(("--epochs", 1) if line == "finetune" else ()))
        assert answer.code == USER
        assert f"{missing} is not done" in answer.last_line


def test_debug_shows_the_traceback_wherever_it_stands(amc):
    for line in (["--debug", "graph", "digitz"], ["graph", "digitz", "--debug"]):
        with pytest.raises(ConfigError):
            amc(*line)


def test_a_bug_is_one_line_too(amc, monkeypatch):
    monkeypatch.setattr(networks, "trace_network", lambda config: 1 / 0)
    answer = amc("graph", "digits")
    assert answer.code == USER
    assert answer.last_line.startswith("amc: internal error: ZeroDivisionError") and "--debug" in answer.last_line


def test_a_full_disk_is_one_line(amc, monkeypatch):
    def full(config):
        raise OSError(28, "No space left on device", "somewhere")

    monkeypatch.setattr(networks, "trace_network", full)
    answer = amc("graph", "digits")
    assert answer.code == USER
    assert answer.last_line.startswith("amc: somewhere: No space left on device")


def test_a_folder_at_work_is_left_alone(amc, run_folder):
    with locked(run_folder):
        answer = amc("prune", run_folder)
    assert answer.code == USER
    assert "another amc" in answer.last_line
    assert amc("prune", Path(run_folder)).code == 0

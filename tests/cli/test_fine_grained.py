"""Fine-grained pruning from search to report: the network keeps its shape, its zeros are counted and kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from amc_mobile.cli import main
from amc_mobile.runs import read_json


@pytest.fixture(scope="module")
def sparse(tmp_path_factory, tiny) -> Path:
    """A finished run at 30 % of the parameters, trained for an epoch. Read it only."""
    text = tiny.read_text(encoding="utf-8").replace("latency = 0.6", "params = 0.3")
    config = tmp_path_factory.mktemp("config") / "sparse.toml"
    config.write_text(text.replace("[search]", '[search]\ngranularity = "weight"') + "[finetune]\nepochs = 1\n")
    folder = tmp_path_factory.mktemp("sparse") / "run"
    assert main.run(["run", str(config), "--out", str(folder)]) == 0
    return folder


def weights(path: Path) -> dict[str, np.ndarray]:
    arrays = {item.name: numpy_helper.to_array(item) for item in onnx.load(path).graph.initializer}
    return {name: array for name, array in arrays.items() if array.ndim > 1 and array.dtype == np.float32}


def test_the_file_has_the_original_shapes_and_the_zeros_that_were_promised(sparse):
    before, after = weights(sparse / "original.onnx"), weights(sparse / "model.onnx")
    assert {name: array.shape for name, array in after.items()} == {n: a.shape for n, a in before.items()}
    summary = read_json(sparse / "summary.json")
    biases = summary["params_before"] - sum(array.size for array in before.values())
    assert sum(np.count_nonzero(array) for array in after.values()) + biases == summary["params_after"]
    assert summary["params_after"] <= 0.3 * summary["params_before"]
    assert summary["macs_after"] < summary["macs_before"]
    assert read_json(sparse / "parity.json")["pruned"] < 1e-4


def test_the_module_loads_and_answers_as_the_file_does(sparse):
    import onnxruntime
    import torch

    from amc_mobile.prune.saved import load

    images = np.random.default_rng(0).normal(size=(1, 1, 32, 32)).astype(np.float32)
    shipped = onnxruntime.InferenceSession(str(sparse / "model.onnx")).run(None, {"input": images})[0]
    with torch.inference_mode():
        loaded = load(sparse)(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(loaded, shipped, atol=1e-4 * np.abs(shipped).max())


def test_the_report_says_what_zeros_do_not_do(sparse):
    text = (sparse / "report.md").read_text(encoding="utf-8")
    assert "computes with the zeros all the same" in text
    assert (sparse / "ranking.npz").is_file()
    assert read_json(sparse / "why.json")["groups"]


@pytest.mark.parametrize("limit", [("--latency", "0.5"), ("--memory", "0.5"), ("--protocol", "accuracy")])
def test_a_limit_that_zeros_cannot_keep_is_refused(amc, tmp_path, limit):
    answer = amc("search", "--granularity", "weight", *limit, "--out", tmp_path / "run")
    assert answer.code == 1
    assert "limit --params, --macs or --bytes" in answer.last_line


def test_an_importance_of_channels_is_refused(amc, tmp_path):
    line = ("--granularity", "weight", "--params", "0.5", "--importance", "hrank")
    answer = amc("search", *line, "--out", tmp_path / "run")
    assert answer.code == 1
    assert "choose one of reconstruction, activation, l1" in answer.last_line
    assert not (tmp_path / "run").exists()


def test_a_bare_file_can_be_sparse_too(amc, sparse, tiny, tmp_path):
    config = tmp_path / "bare.toml"
    config.write_text("\n".join(line for line in tiny.read_text().splitlines() if not line.startswith("weights")))
    line = ("--model", sparse / "original.onnx", "--granularity", "weight", "--macs", "0.4", "--agent", "uniform")
    answer = amc("search", "--config", config, "--data", "digits", *line, "--out", tmp_path / "run")
    assert answer.code == 0, answer.err
    assert amc("prune", tmp_path / "run", "--json").json()["macs_after"] > 0
    assert (tmp_path / "run" / "model.onnx").is_file()

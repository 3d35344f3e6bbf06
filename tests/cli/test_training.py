"""Training from scratch and after the cut: what stands in [train] and [finetune] happens, and is on record."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
import torch

from amc_mobile.config import RunConfig
from amc_mobile.sections.train import TrainConfig

SMALL = """
[train]
epochs = 2
batch_size = 32
validation_images = 16
[model]
name = "tests.train.networks:ten_classes"
"""


@pytest.fixture
def small(tiny, tmp_path):
    """The tiny run of a user's own network that is trained here."""
    text = "".join(tiny.read_text(encoding="utf-8").splitlines(keepends=True)[3:])  # without its [model]
    path = tmp_path / "small.toml"
    path.write_text(SMALL + text, encoding="utf-8")
    return path


def record(folder, name):
    return json.loads((folder / name).read_text(encoding="utf-8"))


def trained(folder):
    """All that is trained, in one vector: the statistics of the batch norms are not."""
    tensors = torch.load(folder / "weights.pt", weights_only=True).items()
    return torch.cat([tensor.flatten() for name, tensor in tensors if name.endswith(("weight", "bias"))])


def test_a_network_without_weights_is_trained_from_scratch(amc, small, tmp_path):
    folder = tmp_path / "run"
    line = ("search", "--config", small, "--macs", 0.6, "--out", folder)
    answer = amc(*line)
    assert answer.code == 0, answer.err
    told = record(folder, "train.json")
    assert [epoch["number"] for epoch in told["epochs"]] == [1, 2]
    assert told["images"] == 48 and told["validation_images"] == 16
    assert all(0 <= epoch["validation_accuracy"] <= 1 and epoch["loss"] > 0 for epoch in told["epochs"])
    assert not list(folder.glob("*.partial"))
    weights = torch.load(folder / "original.pt", weights_only=True)
    torch.save(weights, tmp_path / "weights.pt")
    given = amc(*line, "--weights", tmp_path / "weights.pt", "--update")
    assert given.code == 0 and "nothing is trained" in given.err
    assert not (folder / "train.json").exists()


def test_without_weights_and_epochs_it_is_taken_as_it_is_built(amc, small, tmp_path):
    small.write_text(small.read_text().replace("epochs = 2\nbatch", "epochs = 0\nbatch"))
    answer = amc("search", "--config", small, "--macs", 0.6, "--out", tmp_path / "run")
    assert answer.code == 0 and "train.epochs trains it" in answer.err
    assert not (tmp_path / "run" / "train.json").exists()


def test_an_onnx_file_is_not_trained(amc, finished, small, tmp_path):
    answer = amc("search", "--config", small, "--model", finished / "original.onnx", "--out", tmp_path / "run")
    assert answer.code == 1 and "set train.epochs to 0" in answer.last_line


def test_finetuning_is_on_record_until_the_network_is_cut_anew(amc, run_folder):
    assert not (run_folder / "finetune.json").exists()
    assert amc("finetune", run_folder, "--epochs", 2).code == 0
    told = record(run_folder, "finetune.json")
    assert len(told["epochs"]) == told["asked_epochs"] == told["best_epoch"] == 2
    assert amc("prune", run_folder).code == 0
    assert not (run_folder / "finetune.json").exists()


def test_digits_has_a_recipe_of_its_own_until_train_says_otherwise():
    assert RunConfig().training.epochs == 12
    assert RunConfig(train=TrainConfig(epochs=0)).training.epochs == 0
    other = RunConfig().model_copy(update={"model": RunConfig().model.model_copy(update={"name": "plain20"})})
    assert not other.training.epochs


@pytest.mark.slow
def test_torchrun_finetunes_with_two_processes(amc, tiny, tmp_path):
    """As the README says. The steps are those of one process up to rounding; only one process writes.

    The budget is in MACs: under one in milliseconds every run cuts another network, now and then one whose
    batch norms turn rounding into something larger.
    """
    folder, alone = tmp_path / "run", tmp_path / "alone"
    assert amc("search", "--config", tiny, "--macs", 0.6, "--out", folder).code == 0
    assert amc("prune", folder).code == 0
    shutil.copytree(folder, alone)
    before = trained(folder)
    options = ("--epochs", "2", "--batch-size", "32", "--validation-images", "8")
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    line = (*torchrun, "-m", "amc_mobile.cli.main", "finetune", folder, *options, "--json")
    done = subprocess.run([str(word) for word in line], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["params_after"] > 0
    assert record(folder, "finetune.json")["processes"] == 2
    assert amc("finetune", alone, *options).code == 0
    one, two = trained(alone), trained(folder)
    assert torch.dist(one, two) < 0.2 * torch.dist(one, before)
    failed = subprocess.run(
        [str(word) for word in (*torchrun, "-m", "amc_mobile.cli.main", "finetune", tmp_path / "none", "--epochs", 1)],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert failed.returncode != 0 and "is no run folder" in failed.stderr


def test_options_reach_the_training(amc, run_folder):
    line = ("finetune", run_folder, "--epochs", 3, "--label-smoothing", 0.1, "--ema", 0, "--distillation", 0)
    line += ("--batch-size", 16, "--validation-images", 16, "--patience", 1, "--train-precision", "bf16")
    assert amc(*line, "--batch-norm", "frozen", "--learning-rate", 1e-6).code == 0
    told = record(run_folder, "finetune.json")
    assert (told["images"], told["validation_images"]) == (48, 16)
    assert (told["precision"], told["batch_norms"], told["stopped_early"]) == ("bf16", "frozen", True)
    line = ("finetune", run_folder, "--epochs", 1, "--validation-images", 0)
    assert "patience needs validation_images" in amc(*line, "--patience", 1).last_line

"""A detector through every stage, and what is refused for one."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from amc_mobile.models.detectors import OnePass, TwoPass
from amc_mobile.prune.saved import load
from amc_mobile.runs import RunFolder, read_json

NAME = "ssdlite_mobilenet_v3_small"
TINY = f"""
[model]
name = "{NAME}"
image_size = 64
[data]
name = "shapes"
search_images = 8
calibration_images = 8
test_images = 8
train_images = 16
[train]
epochs = 1
batch_size = 8
[budget]
macs = 0.6
[profile]
carriers = 4
rounds = 1
turns = 2
warmups = 1
runs = 5
min_time_s = 0.0
force = true
[search]
evaluations = 6
agent = "uniform"
[finetune]
epochs = 1
batch_size = 8
[bench]
rounds = 3
warmups = 1
runs = 5
min_time_s = 0.0
int8 = false
"""


@pytest.mark.slow
def test_faster_rcnn_through_every_stage(amc, tmp_path):
    config = tmp_path / "detector.toml"
    config.write_text(
        TINY.replace(NAME, "fasterrcnn_mobilenet_v3_large_320_fpn").replace("[data]", "classes = 3\n[data]")
    )
    answer = amc("run", config, "--out", tmp_path / "run", "--json")
    assert answer.code == 0, answer.err
    summary = json.loads(answer.out)
    assert summary["macs_after"] <= 0.6 * summary["macs_before"]
    original = torch.load(tmp_path / "run" / "original.pt", weights_only=True)
    detector = load(tmp_path / "run")
    assert isinstance(detector, TwoPass)
    heads = {name: value for name, value in detector.state_dict().items() if name.startswith("roi_heads")}
    assert heads
    assert all(torch.equal(value, original[name]) for name, value in heads.items())  # what evaluates is what ships
    with torch.no_grad():
        assert detector([torch.rand(3, 50, 80)])[0].keys() == {"boxes", "scores", "labels"}


@pytest.mark.slow
def test_every_stage(amc, tmp_path):
    config = tmp_path / "detector.toml"
    config.write_text(TINY)
    answer = amc("run", config, "--out", tmp_path / "run", "--json")
    assert answer.code == 0, answer.err
    summary = json.loads(answer.out)
    assert summary["accuracy_metric"] == "map"
    assert summary["macs_after"] <= 0.6 * summary["macs_before"]
    assert summary["parity"] < 1e-4

    folder = RunFolder(tmp_path / "run")
    accuracy = read_json(folder.accuracy)
    assert accuracy["original"].keys() == {"map", "map50"}
    assert len(read_json(folder.training)["epochs"]) == len(read_json(folder.finetuning)["epochs"]) == 1
    detector = load(folder.root)
    assert isinstance(detector, OnePass)
    with torch.no_grad():
        assert detector([torch.rand(3, 50, 80)])[0].keys() == {"boxes", "scores", "labels"}

    assert len(read_json(folder.detections)["pictures"]) == 4
    page = folder.report.read_text()
    assert "What the detectors find" in page
    assert "data:image/png;base64," in page
    assert ">mAP50</th>" in page
    assert "Top-5" not in page
    markdown = folder.report.with_suffix(".md").read_text()
    assert "| Network | mAP | mAP50 |" in markdown
    assert amc("search", "--config", config, "--out", folder.root, "--pareto").out.count("mAP") == 1
    again = amc("transfer", folder.root, "--data", "digits")
    assert (again.code, "only classifiers are transferred" in again.last_line) == (1, True)


@pytest.mark.slow
def test_single_weights_stay_zero_while_a_detector_is_trained(amc, tmp_path):
    config = tmp_path / "detector.toml"
    config.write_text(
        TINY.replace("[search]", '[search]\ngranularity = "weight"').replace("macs = 0.6", "params = 0.4")
    )
    folder = tmp_path / "run"
    assert amc("search", "--config", config, "--out", folder).code == 0
    assert amc("prune", folder).code == 0
    told = amc("finetune", folder, "--epochs", 1, "--json")
    assert told.code == 0, told.err
    counted = [numpy_helper.to_array(item) for item in onnx.load(folder / "model.onnx").graph.initializer]
    kept = sum(np.count_nonzero(array) for array in counted if array.dtype == np.float32 and array.ndim > 1)
    whole = sum(array.size for array in counted if array.dtype == np.float32 and array.ndim > 1)
    assert kept < 0.45 * whole
    assert told.json()["params_after"] <= 0.4 * told.json()["params_before"]
    assert load(folder).size == 64


def test_the_users_own_detector(amc, tmp_path, monkeypatch):
    (tmp_path / "mydetector.py").write_text(
        "from amc_mobile.models.small_detector import ssdlite_mobilenet_v3_small as small\n"
        "def build():\n    return small(4, 64)\n"
    )
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "own.toml"
    path.write_text('[model]\nname = "mydetector:build"\n[data]\nname = "digits"\n')
    told = amc("run", path, "--out", tmp_path / "run").last_line
    assert "mydetector:build is for detection, not for classification; set model.task = 'detection'" in told
    path.write_text('[model]\nname = "mydetector:build"\ntask = "detection"\n[data]\nname = "digits"\n')
    assert "digits has no boxes" in amc("run", path, "--out", tmp_path / "again").last_line


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            '[model]\nname = "digits"\ntask = "detection"\n[data]\nname = "shapes"',
            "digits is for classification, not for",
        ),
        ('[model]\nname = "x.onnx"\ntask = "detection"', "there is no x.onnx"),
        ('[model]\nname = "digits"\n[data]\nname = "shapes"', "shapes has boxes"),
        (f'[model]\nname = "{NAME}"\n[data]\nname = "digits"', "digits has no boxes"),
        (f'[model]\nname = "{NAME}"\nclasses = 2\n[data]\nname = "shapes"', "set model.classes"),
        (f'[model]\nname = "{NAME}"\nmean = [0.5, 0.5, 0.5]\n[data]\nname = "shapes"', "normalises its images itself"),
        (f'[model]\nname = "{NAME}"\n[search]\nreward = "top5"', "detection has no top5"),
        (f'[model]\nname = "{NAME}"\n[data]\nname = "coco:nowhere"', "no annotations/instances_"),
        (
            f'[model]\nname = "{NAME}"\n[finetune]\nepochs = 1\ndistillation = 0.9\nprecision = "bf16"',
            "finetune.precision, finetune.distillation: for classifiers only",
        ),
        ('[model]\nname = "digits"\nclasses = 5', "model.classes is for torchvision's detectors"),
    ],
)
def test_what_does_not_go_together_is_told_in_one_line(amc, tmp_path, settings, says):
    path = tmp_path / "wrong.toml"
    path.write_text(settings + "\n")
    answer = amc("run", path, "--out", tmp_path / "run")
    assert answer.code == 1
    assert says in answer.last_line


def test_a_bare_file_is_no_detector(amc, tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"anything")
    path = tmp_path / "wrong.toml"
    path.write_text(f'[model]\nname = "{tmp_path / "net.onnx"}"\ntask = "detection"\n')
    answer = amc("run", path, "--out", tmp_path / "run")
    assert (answer.code, "only a detector's module decodes" in answer.last_line) == (1, True)

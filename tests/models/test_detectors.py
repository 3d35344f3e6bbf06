"""Torchvision's detectors as one graph: same weights, same detections, raw answers that survive export and pruning."""

from __future__ import annotations

import copy
import functools

import numpy as np
import pytest
import torch
import torchvision

from amc_mobile.errors import ConfigError
from amc_mobile.export.to_onnx import export, parity
from amc_mobile.graph.trace import trace
from amc_mobile.models.data import open_data
from amc_mobile.models.detection import Detection
from amc_mobile.models.detectors import OnePass, TwoPass, adopt, own_classes, own_size
from amc_mobile.models.evaluation import OnnxEvaluator
from amc_mobile.models.torch_evaluation import TorchEvaluator
from amc_mobile.models.zoo import find
from amc_mobile.prune.importance import keep, rank
from amc_mobile.prune.module import slice_module
from tests.prune.networks import share

ONE, TWO = "ssdlite_mobilenet_v3_small", "fasterrcnn_mobilenet_v3_large_320_fpn"
SIZES = {ONE: 128, TWO: 64}


@functools.cache
def built(name):
    torch.manual_seed(0)
    entry = find(name, 3, SIZES[name])
    module = entry.build().eval()
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(part.weight, 0.5, 1.5)
            torch.nn.init.uniform_(part.running_var, 0.5, 1.5)
    return entry, module


@functools.cache
def graph_of(name):
    entry, module = built(name)
    return export(module, entry.input_shape)


def images(entry, count=2, seed=0):
    return np.random.default_rng(seed).standard_normal((count, *entry.input_shape)).astype(np.float32)


@pytest.mark.parametrize("name", [ONE, TWO])
def test_raw_answers_are_decoded_to_what_torchvision_detects(name):
    entry, module = built(name)
    normal = torch.from_numpy(images(entry))
    mean, std = (torch.tensor(each)[:, None, None] for each in (entry.preprocessing.mean, entry.preprocessing.std))
    with torch.no_grad():
        expected = module([image * std + mean for image in normal])
        found = module.detections(module(normal))
    assert sum(len(each["scores"]) for each in expected) > 0
    for own, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(own["boxes"], theirs["boxes"], atol=1e-3, rtol=1e-4)
        torch.testing.assert_close(own["scores"], theirs["scores"], atol=1e-5, rtol=1e-4)
        assert torch.equal(own["labels"], theirs["labels"])


@pytest.mark.parametrize("name", [ONE, TWO])
def test_a_wide_picture_is_squeezed_as_it_was_in_training(name):
    entry, module = built(name)
    size = entry.input_shape[-1]
    rng = np.random.default_rng(1)
    wide = torch.from_numpy(rng.uniform(0, 1, (3, 5, 8)).astype(np.float32))
    wide = torch.nn.functional.interpolate(wide[None], (size, 2 * size), mode="bilinear")[0]
    with torch.no_grad():
        (theirs,) = module([wide])
        sized = torch.nn.functional.interpolate(wide[None], (size, size), mode="bilinear", align_corners=False)
        mean, std = (torch.tensor(each)[:, None, None] for each in (entry.preprocessing.mean, entry.preprocessing.std))
        (own,) = module.detections(module((sized - mean) / std))
    assert len(theirs["scores"]) > 0
    torch.testing.assert_close(own["scores"], theirs["scores"], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(own["boxes"] * torch.tensor([2.0, 1.0, 2.0, 1.0]), theirs["boxes"], atol=1e-2, rtol=1e-3)


@pytest.mark.parametrize("name", [ONE, TWO])
def test_losses_are_those_of_torchvision(name):
    entry, module = built(name)
    module = copy.deepcopy(module).train()
    size = SIZES[name]
    normal = torch.from_numpy(images(entry))
    mean, std = (torch.tensor(each)[:, None, None] for each in (entry.preprocessing.mean, entry.preprocessing.std))
    wanted = [
        {"boxes": torch.tensor([[4.0, 6.0, size / 2, size / 2]]), "labels": torch.tensor([2])},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
    ]
    torch.manual_seed(1)
    ours = copy.deepcopy(module)(normal, wanted)
    torch.manual_seed(1)
    theirs = module([image * std + mean for image in normal], wanted)
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        torch.testing.assert_close(value, theirs[key], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(("name", "groups"), [(ONE, 34), pytest.param(TWO, 31, marks=pytest.mark.slow)])
def test_the_graph_answers_alike_and_its_heads_are_pinned(name, groups):
    entry, module = built(name)
    model = graph_of(name)
    assert [output.name for output in model.graph.output] == ["logits"]
    assert parity(module, model, images(entry)) < 1e-4
    network = trace(model, name).network
    prunable = {layer for group in network.prunable() for layer in group.producers}
    heads = [layer.name for layer in network.layers if "regression_head" in layer.name or "bbox_pred" in layer.name]
    last = [layer for layer in heads if layer.endswith((".1", "bbox_pred"))]
    assert last
    assert not prunable & set(last)
    assert len(network.prunable()) == groups


@pytest.mark.parametrize("name", [ONE, pytest.param(TWO, marks=pytest.mark.slow)])
def test_a_pruned_detector_is_smaller_and_still_detects(name):
    _, module = built(name)
    traced = trace(graph_of(name), name)
    small = slice_module(module, traced, keep(share(traced, 0.6), rank(traced, "l1")))
    assert sum(p.numel() for p in small.backbone.parameters()) < 0.7 * sum(
        p.numel() for p in module.backbone.parameters()
    )
    with torch.no_grad():
        found = small([torch.rand(3, 90, 120)])  # any size: torchvision brings it to its own and the boxes back
    assert found[0].keys() >= {"boxes", "scores", "labels"}
    assert bool((found[0]["boxes"][:, 2] <= 120).all())


@pytest.mark.parametrize("name", [ONE, TWO])
def test_divergence_is_nothing_from_itself_and_grows_with_the_change(name):
    entry, module = built(name)
    with torch.no_grad():
        answers = module(torch.from_numpy(images(entry, 3)))
    noise = torch.randn(answers.shape, generator=torch.Generator().manual_seed(0)) * answers.abs().mean()
    same, near, far = (module.divergences(answers, answers + step * noise) for step in (0.0, 0.1, 1.0))
    assert same.shape == (3,)
    assert float(same.abs().max()) < 1e-9
    assert bool((near > 0).all())
    assert bool((far > near).all())


def test_a_detector_that_sees_what_is_not_there_diverges():
    _, module = built(ONE)
    calm = torch.zeros(1, 20, 8)
    calm[..., 0] = 12.0  # nothing but background
    wild = calm.clone()
    wild[0, :5, 1] = 20.0
    assert float(module.divergences(calm, wild)) > 10.0


def test_torch_evaluates_as_onnxruntime_does():
    entry, module = built(ONE)
    data = open_data("shapes")
    chosen = np.arange(4)
    tensors, labels, judge = data.tensors(chosen, entry.preprocessing), data.labels[chosen], Detection(module).judge
    one = OnnxEvaluator(tensors, labels, 1, judge=judge).score(graph_of(ONE))
    other = TorchEvaluator(tensors, labels, "cpu", judge=judge).score(graph_of(ONE))
    assert other.map == pytest.approx(one.map, abs=1e-3)
    assert (one.top1, one.images) == (None, 4)


def test_a_faster_rcnn_reads_whole_strides():
    with pytest.raises(ConfigError, match="multiples of 32 pixels, not 100"):
        find(TWO, image_size=100)


def test_only_known_kinds_are_detectors():
    with pytest.raises(ConfigError, match="no SSD and no Faster R-CNN"):
        adopt(torchvision.models.detection.retinanet_resnet50_fpn(weights=None, weights_backbone=None), 320)


def test_names_sizes_and_classes():
    entry = find("ssdlite320_mobilenet_v3_large")
    assert (entry.task, entry.classes, entry.input_shape) == ("detection", 90, (3, 320, 320))
    assert entry.preprocessing.stretch
    other = find(ONE, classes=7, image_size=160)
    module = other.build()
    assert isinstance(module, OnePass)
    assert (own_classes(module), own_size(module), other.input_shape) == (7, 160, (3, 160, 160))
    two = built(TWO)[1]
    assert isinstance(two, TwoPass)
    assert own_classes(two) == 3
    with pytest.raises(ConfigError, match=r"model\.classes is for torchvision's detectors"):
        find("digits", classes=5)


def test_published_names_of_weights_are_kept():
    ours = find("ssdlite320_mobilenet_v3_large").build().state_dict()
    theirs = torchvision.models.detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None)
    assert ours.keys() == theirs.state_dict().keys()
    assert all(ours[name].shape == value.shape for name, value in theirs.state_dict().items())

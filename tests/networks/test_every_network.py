"""Every network that we say can be pruned: for random policies, masked graph = sliced graph = sliced module.

Its costs by formula are those of the sliced module, and what is saved comes back. Images are small where the network
allows it; weights are random, with batch norms that do something.
"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from amc_mobile.cost.formulas import macs, params, size_bytes
from amc_mobile.export.to_onnx import export
from amc_mobile.graph.trace import trace
from amc_mobile.graph.traced import Channels, TracedGraph
from amc_mobile.models.zoo import ModelEntry, find
from amc_mobile.prune.classifier import classifiers, reclassify
from amc_mobile.prune.module import slice_module
from amc_mobile.prune.saved import load, save
from amc_mobile.prune.stubborn import pin_stubborn
from amc_mobile.runs import RunFolder
from tests.graph.builders import images_for, relative_error, run
from tests.networks.facts import FACTS, QUICK
from tests.prune.test_module import answers

_TOLERANCE = 1e-4


def _lively(module: nn.Module) -> nn.Module:
    """Batch norms that do something; heads, layer scales and class tokens that are not nearly zero."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, 0.0, 0.3)
            nn.init.normal_(part.running_mean, 0.0, 0.1)
            nn.init.uniform_(part.running_var, 0.5, 1.5)
        elif isinstance(part, nn.Linear) and not part.weight.any():
            nn.init.normal_(part.weight, 0.0, 0.1)
    for name, parameter in module.named_parameters():
        if name.endswith(("layer_scale", "class_token", "relative_position_bias_table")):
            nn.init.uniform_(parameter, 0.2, 0.6)
    return module.eval()


def _network(name: str, size: int | None) -> tuple[ModelEntry, nn.Module, TracedGraph]:
    entry = find(name)
    if size:
        entry = replace(entry, input_shape=(3, size, size))
    torch.manual_seed(0)
    module = _lively(entry.build())
    return entry, module, trace(pin_stubborn(module, export(module, entry.input_shape)), name)


@pytest.mark.parametrize(
    ("name", "size", "prunable", "channels"),
    [
        pytest.param(*fact, id=fact[0].rpartition(":")[2], marks=() if fact[0] in QUICK else pytest.mark.slow)
        for fact in FACTS
    ],
)
def test_a_pruned_network_is_what_it_says(name: str, size: int | None, prunable: int, channels: int, tmp_path) -> None:
    entry, module, traced = _network(name, size)
    groups = traced.network.prunable()
    assert (len(groups), sum(group.channels for group in groups)) == (prunable, channels)
    assert all(group.reason for group in traced.network.groups if not group.prunable)
    random = np.random.default_rng(7)
    for number in range(1 if name.startswith("vgg") else 2):  # each takes half a minute and gigabytes of memory
        kept, images = _fewer(traced, random), images_for(traced, random)
        sliced, small = traced.slice(kept), slice_module(module, traced, kept)
        answer = run(sliced, images)
        assert relative_error(run(traced.mask(kept), images), answer) < _TOLERANCE
        assert relative_error(answers(small, images), answer) < _TOLERANCE
        assert relative_error(run(traced.model, images), answer) > 10 * _TOLERANCE
        _check_costs(traced, [len(stay) for stay in kept], small, sliced)
        folder = RunFolder(tmp_path / str(number)).create()
        save(folder, small, entry, traced.network, kept)
        assert np.array_equal(answers(load(folder.root), images), answers(small, images))
    reclassify(small, classifiers(traced), entry.input_shape, 3, seed=0)
    assert answers(small, images).shape == (len(images), 3)


def _fewer(traced: TracedGraph, random: np.random.Generator) -> Channels:
    """From a third to all but one of every prunable group."""
    return tuple(
        np.sort(random.permutation(group.channels)[: random.integers(-(-group.channels // 3), group.channels)])
        if group.prunable
        else np.arange(group.channels)
        for group in traced.network.groups
    )


def _check_costs(traced: TracedGraph, kept: list[int], small: nn.Module, sliced: onnx.ModelProto) -> None:
    network = traced.network
    assert macs(network, kept) == _counted_macs(small, network.input_shape)
    assert params(network, kept) == _module_params(small, sliced)
    assert size_bytes(network, kept) == pytest.approx(sliced.ByteSize(), rel=0.003)


def _counted_macs(module: nn.Module, shape: tuple[int, ...]) -> int:
    """Half of what torch counts."""
    with FlopCounterMode(display=False) as counter:  # with gradients: else attention is one operator, not counted
        module(torch.zeros(shape))
    return int(counter.get_total_flops()) // 2


def _module_params(module: nn.Module, model: onnx.ModelProto) -> int:
    """The module's parameters that its graph uses, less what folding saves, and constants that the graph spells out."""
    notes = {item.key: json.loads(item.value) for item in model.metadata_props if item.key.startswith("amc.")}
    parts, parameters = dict(module.named_modules()), dict(module.named_parameters())
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    source = notes["amc.transposed"] | notes["amc.stretched"]
    used = {source.get(name, name) for name in stored} & parameters.keys()
    count = sum(parameters[name].numel() for name in used)
    for layer in notes["amc.folded"]:  # the norm's scale and shift become one bias, the layer's own if it has one
        owner = parts.get(layer)
        count += 0 if owner is None or owner.bias is not None else len(owner.weight)
    buffers = {name for node in model.graph.node if node.op_type == "BatchNormalization" for name in node.input[3:5]}
    folded_biases = {f"{layer}.bias" for layer in notes["amc.folded"]}
    others = [
        int(np.prod(tensor.dims))
        for name, tensor in stored.items()
        if source.get(name, name) not in parameters
        and name not in buffers | folded_biases
        and tensor.dims
        and tensor.data_type == onnx.TensorProto.FLOAT
    ]
    return count + sum(others)

"""A changed module's weights, put back into its graph, make the graph equal to the module."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from amc_mobile.errors import GraphError
from amc_mobile.export.to_onnx import export, parity
from amc_mobile.export.weights import folded_weights, freeze_unstored
from tests.export.networks import (
    SHAPE,
    LinearNorm,
    PreActivation,
    RawParameters,
    SharedConvolution,
    Stretched,
    TiedWeights,
    Tokens,
    exported_tiny,
)


def changed(module):
    """Every float tensor moved a little but what is frozen, variances kept positive."""
    other = copy.deepcopy(module)
    generator = torch.Generator().manual_seed(9)
    frozen = {name for name, parameter in other.named_parameters() if not parameter.requires_grad}
    for name, tensor in other.state_dict().items():
        if tensor.is_floating_point() and name not in frozen:
            tensor.mul_(1 + 0.3 * torch.rand(tensor.shape, generator=generator))
    return other


def filled(model, arrays):
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    for tensor in copied.graph.initializer:
        if tensor.name in arrays:
            tensor.CopyFrom(numpy_helper.from_array(arrays[tensor.name], tensor.name))
    return copied


@pytest.mark.parametrize("network", [PreActivation, SharedConvolution, LinearNorm, RawParameters, Tokens])
def test_the_filled_graph_equals_the_changed_module(network):
    module, model = exported_tiny(network)
    other = changed(module)
    arrays = folded_weights(other, model)
    images = np.random.default_rng(0).standard_normal((2, *SHAPE)).astype(np.float32)
    assert parity(other, model, images) > 1e-3
    assert parity(other, filled(model, arrays), images) < 1e-6


def test_what_the_graph_cannot_take_back_is_frozen():
    module, model = exported_tiny(Stretched)
    module = copy.deepcopy(module)
    freeze_unstored(module, model)
    assert [name for name, parameter in module.named_parameters() if not parameter.requires_grad] == ["table"]
    other = changed(module)
    images = np.random.default_rng(0).standard_normal((2, *SHAPE)).astype(np.float32)
    assert parity(other, filled(model, folded_weights(other, model)), images) < 1e-6


def test_folded_norms_and_transposed_weights_stay_trainable():
    for network in (PreActivation, LinearNorm, RawParameters, TiedWeights, Tokens):
        module, model = exported_tiny(network)
        module = copy.deepcopy(module)
        freeze_unstored(module, model)
        assert all(parameter.requires_grad for parameter in module.parameters())


def test_the_same_arrays_as_a_new_export():
    module, model = exported_tiny(PreActivation)
    other = changed(module)
    arrays = folded_weights(other, model)
    again = {tensor.name: numpy_helper.to_array(tensor) for tensor in export(other, SHAPE).graph.initializer}
    assert {name for name in again if "." in name} == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, again[name])


def test_a_module_of_other_widths_is_refused():
    module, model = exported_tiny(PreActivation)
    other = copy.deepcopy(module)
    other.conv2 = torch.nn.Conv2d(8, 5, 1)
    with pytest.raises(GraphError, match=r"conv2\.weight has shape \(5, 8, 1, 1\)"):
        folded_weights(other, model)


def test_a_module_without_the_folded_norm_is_refused():
    module, model = exported_tiny(PreActivation)
    other = copy.deepcopy(module)
    other.norm2 = torch.nn.Identity()
    with pytest.raises(GraphError, match="norm2 is folded"):
        folded_weights(other, model)

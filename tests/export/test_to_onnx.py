"""The exported graph computes what the module computes, and is named as the module is."""

from __future__ import annotations

import copy
import json
import logging
import warnings

import numpy as np
import onnx
import pytest
import torch

from amc_mobile.errors import GraphError
from amc_mobile.export.to_onnx import export, parity
from amc_mobile.models.zoo import find, load_module
from tests.export.networks import SHAPE as SMALL
from tests.export.networks import (
    DataDependent,
    LinearNorm,
    PreActivation,
    RawParameters,
    ReadTwice,
    SharedConvolution,
    Tokens,
    TwoAnswers,
    exported_tiny,
)

TINY_NETWORKS = [PreActivation, SharedConvolution, ReadTwice, LinearNorm, RawParameters, Tokens, TwoAnswers]


def metadata(model, key):
    return json.loads(next(item.value for item in model.metadata_props if item.key == key))


def operators(model):
    return [node.op_type for node in model.graph.node]


def images(shape, count=2):
    return np.random.default_rng(5).standard_normal((count, *shape)).astype(np.float32)


def stored(model):
    return {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}


def check_form(model, module):
    """What every exported graph promises."""
    onnx.checker.check_model(model, full_check=True)
    assert [item.name for item in model.graph.input] == ["input"]
    assert [item.name for item in model.graph.output] == ["logits"]
    assert not {"Constant", "Identity", "Dropout", "CastLike", "SequenceAt"} & set(operators(model))
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    typed = {info.name for info in model.graph.value_info} | {"logits"}
    assert typed >= {output for node in model.graph.node for output in node.output}
    parameters = dict(module.named_parameters())
    weights = set(metadata(model, "amc.transposed"))
    for name, shape in stored(model).items():
        if name in parameters and name not in weights:
            assert shape == tuple(parameters[name].shape)
    for node in model.graph.node:
        assert not node.doc_string
        assert not node.metadata_props
        if node.op_type == "Conv":
            assert node.input[1] in parameters
            assert f"{node.name}.weight".startswith(node.input[1].removesuffix(".weight"))


@pytest.mark.parametrize("network", TINY_NETWORKS, ids=lambda network: network.__name__)
def test_tiny_networks_are_equal(network):
    module, model = exported_tiny(network)
    assert parity(module, model, images(SMALL)) < 1e-6
    check_form(model, module)


@pytest.mark.parametrize("name", ["digits", "resnet20"])
def test_known_networks_are_equal(name, module_of, exported):
    module, model = module_of(name), exported(name)
    assert parity(module, model, images(find(name).input_shape)) < 2e-6
    check_form(model, module)
    assert "BatchNormalization" not in operators(model)
    layers = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm")]
    assert all(list(node.input[1:]) == [f"{node.name}.weight", f"{node.name}.bias"] for node in layers)
    assert len({node.input[2] for node in layers}) == len(layers)


SLOW = [
    *("mobilenet_v2", "resnet56", "plain20", "vgg16_bn", "densenet121", "mobilenet_v3_small", "resnet18"),
    *("squeezenet1_1", "googlenet", "inception_v3", "shufflenet_v2_x0_5", "mobilenet_v1_0.75", "convnext_tiny"),
]


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_more_networks_are_equal(name, module_of, exported):
    module, model = module_of(name), exported(name)
    assert parity(module, model, images(find(name).input_shape, 1)) < 5e-6
    check_form(model, module)
    left = operators(model).count("BatchNormalization")
    assert left == (62 if name == "densenet121" else 0)


def test_what_can_be_folded_is_folded():
    _, model = exported_tiny(PreActivation)
    assert metadata(model, "amc.folded") == {"conv1": "norm2"}
    assert operators(model).count("BatchNormalization") == 1
    norm = next(node for node in model.graph.node if node.op_type == "BatchNormalization")
    assert norm.input[1:] == ["norm1.weight", "norm1.bias", "norm1.running_mean", "norm1.running_var"]
    assert {"conv1.bias", "conv2.bias"} <= stored(model).keys()


@pytest.mark.parametrize("network", [SharedConvolution, ReadTwice])
def test_what_others_also_read_is_not_folded(network):
    _, model = exported_tiny(network)
    assert metadata(model, "amc.folded") == {}
    assert "BatchNormalization" in operators(model)


def test_a_layer_without_bias_gets_none():
    class Bare(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 4, 3, bias=False)

        def forward(self, x):
            return self.conv(x).mean((2, 3))

    model = export(Bare(), SMALL)
    assert next(len(node.input) for node in model.graph.node if node.op_type == "Conv") == 2


def test_equal_biases_are_not_merged():
    module = LinearNorm()
    torch.nn.init.zeros_(module.fc2.bias)
    model = export(module.eval(), SMALL)
    assert {"fc1.bias", "fc2.bias"} <= stored(model).keys()


def test_a_transposed_weight_keeps_its_name():
    module, model = exported_tiny(Tokens)
    assert metadata(model, "amc.transposed") == {"mix.weight": "mix.weight"}
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "mix.weight")
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(weight), module.mix.weight.detach().numpy().T)


def test_only_the_logits_leave_the_graph():
    _, model = exported_tiny(TwoAnswers)
    assert "spare.weight" not in stored(model)
    assert "Split" in operators(model)


def test_the_same_module_gives_the_same_bytes():
    module, model = exported_tiny(PreActivation)
    assert export(module, SMALL).SerializeToString() == model.SerializeToString()


def test_the_module_is_left_as_it_was_and_nothing_is_printed(capfd, caplog):
    module = PreActivation()
    module.norm1.eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with warnings.catch_warnings(record=True) as caught, caplog.at_level(logging.DEBUG):
        warnings.simplefilter("always")
        export(module, SMALL)
    assert module.training
    assert module.norm2.training
    assert not module.norm1.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert capfd.readouterr() == ("", "")
    assert not caught
    assert not [record for record in caplog.records if record.levelno >= logging.INFO]


def test_a_network_that_cannot_be_exported_says_so_in_one_line():
    with pytest.raises(GraphError, match="cannot export DataDependent to ONNX: ") as caught:
        export(DataDependent(), SMALL)
    assert "\n" not in str(caught.value)


def test_parity_sees_a_difference():
    module, model = exported_tiny(PreActivation)
    other = copy.deepcopy(module)
    with torch.no_grad():
        other.head.weight += 0.1
    assert parity(other, model, images(SMALL)) > 1e-3


@pytest.mark.slow
def test_published_mobilenet_v2_keeps_its_size():
    model = export(load_module(find("mobilenet_v2"), None), (3, 224, 224))
    assert sum(
        int(np.prod(dims)) for name, dims in stored(model).items() if dims and name.endswith(("weight", "bias"))
    ) == (
        3_504_872 - 17_056  # a folded batch norm leaves one bias behind
    )

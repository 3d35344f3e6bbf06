"""A stranger's ONNX file becomes the one graph of a run, and answers as before."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from amc_mobile.errors import ConfigError, GraphError
from amc_mobile.export.from_onnx import adopt, answer_shape, difference
from amc_mobile.export.onnx_entry import entry_of
from amc_mobile.graph.trace import load, trace

from ..graph.builders import Builder

IMAGES = np.random.default_rng(1).standard_normal((3, 3, 8, 8)).astype(np.float32)


def normalised(builder: Builder, data: str, channels: int) -> str:
    """A batch normalisation that changes something."""
    names = []
    for kind, low, high in (("scale", 0.5, 2), ("shift", -1, 1), ("mean", -1, 1), ("variance", 0.5, 2)):
        values = builder.random.uniform(low, high, channels).astype(np.float32)
        names.append(builder.constant(f"{kind}{len(builder.arrays)}", values))
    return builder.op("BatchNormalization", data, *names)


def network(opset: int = 18, ir_version: int = 10) -> onnx.ModelProto:
    builder = Builder()
    x = builder.op("Relu", normalised(builder, builder.conv("input", "a", 3, 16), 16))
    x = builder.op("Relu", normalised(builder, builder.conv(x, "b", 16, 16, group=16), 16))
    x = builder.op("Flatten", builder.op("GlobalAveragePool", builder.conv(x, "c", 16, 24, kernel=1)))
    model = builder.build(builder.linear(x, "head", 24, 5))
    model.opset_import[0].version, model.ir_version = opset, ir_version
    return model


@pytest.mark.parametrize("opset", range(11, 22))
def test_every_opset_is_adopted_with_its_batch_norms_folded(opset):
    model = network(opset)
    adopted = adopt(model)
    assert "BatchNormalization" not in [node.op_type for node in adopted.graph.node]
    assert difference(model, adopted, IMAGES) < 1e-6
    prunable = trace(adopted, "net").network.prunable()
    assert [group.channels for group in prunable] == [16, 24]


def test_weights_that_are_inputs_or_nodes_become_weights():
    """Files of IR version 3 list every weight as an input; other writers make nodes of them."""
    old = network(opset=11, ir_version=3)
    for stored in old.graph.initializer:
        old.graph.input.append(helper.make_tensor_value_info(stored.name, stored.data_type, stored.dims))
    nodes = network()
    constants = [
        helper.make_node("Constant", [], [stored.name], value=numpy_helper.from_array(numpy_helper.to_array(stored)))
        for stored in nodes.graph.initializer
    ]
    rest = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes.graph.node]
    del nodes.graph.initializer[:], nodes.graph.node[:]
    nodes.graph.node.extend([*constants, *rest])
    for model in (old, nodes):
        adopted = adopt(load(model.SerializeToString(), "net.onnx"))
        onnx.checker.check_model(adopted)
        assert [item.name for item in adopted.graph.input] == ["input"]
        assert len(trace(adopted, "net").network.prunable()) == 2
        assert difference(model, adopted, IMAGES) < 1e-6


def test_the_file_tells_what_it_reads_and_answers():
    entry = entry_of(adopt(network()), "net.onnx")
    assert (entry.input_shape, entry.classes) == ((3, 8, 8), 5)
    assert (entry.preprocessing.mean, entry.preprocessing.std) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    with pytest.raises(ConfigError, match=r"net\.onnx is an ONNX file without its PyTorch source"):
        entry.build()


def test_a_network_that_does_not_run_says_so():
    model = network()
    model.graph.node[0].op_type = "Unheard"
    with pytest.raises(GraphError, match="cannot run the network"):
        answer_shape(model, (3, 8, 8))

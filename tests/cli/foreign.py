"""An ONNX file as strangers write them: arbitrary names, a free batch, weights among the inputs, batch norms apart."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def foreign(model: onnx.ModelProto, seed: int = 0) -> onnx.ModelProto:
    """A network that answers nearly as `model` does, with nothing in it that says where it came from."""
    copy = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    copy.graph.CopyFrom(model.graph)
    _batch_norms(copy.graph, np.random.default_rng(seed))
    del copy.graph.value_info[:]
    for item in (*copy.graph.input, *copy.graph.output):
        item.type.tensor_type.shape.dim[0].dim_param = "n"
    for stored in copy.graph.initializer:
        copy.graph.input.append(helper.make_tensor_value_info(stored.name, stored.data_type, stored.dims))
    _scramble(copy.graph)
    onnx.checker.check_model(copy)
    return copy


def _batch_norms(graph: onnx.GraphProto, random: np.random.Generator) -> None:
    """Puts a batch normalisation behind every convolution."""
    nodes = []
    for node in graph.node:
        nodes.append(node)
        if node.op_type != "Conv":
            continue
        channels = next(item.dims[0] for item in graph.initializer if item.name == node.input[1])
        output, node.output[0] = node.output[0], f"{node.output[0]}/before"
        values = {
            "scale": random.uniform(0.9, 1.1, channels),
            "shift": random.normal(0.0, 0.05, channels),
            "mean": random.normal(0.0, 0.05, channels),
            "variance": random.uniform(0.9, 1.1, channels),
        }
        names = [f"{output}/{name}" for name in values]
        for name, array in zip(names, values.values(), strict=True):
            graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
        nodes.append(helper.make_node("BatchNormalization", [node.output[0], *names], [output]))
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def _scramble(graph: onnx.GraphProto) -> None:
    """Numbers instead of names; nodes have none at all."""
    names: dict[str, str] = {"": ""}

    def new(name: str) -> str:
        return names.setdefault(name, str(7919 * len(names) % 10007))

    for item in (*graph.input, *graph.output, *graph.initializer):
        item.name = new(item.name)
    for node in graph.node:
        node.name = ""
        node.input[:] = [new(name) for name in node.input]
        node.output[:] = [new(name) for name in node.output]


def with_input(model: onnx.ModelProto, shape: tuple[int, ...], kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """A network that only hands on an input of this shape and kind."""
    io = [helper.make_tensor_value_info(name, kind, shape) for name in ("in", "out")]
    graph = helper.make_graph([helper.make_node("Identity", ["in"], ["out"])], "net", io[:1], io[1:])
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)

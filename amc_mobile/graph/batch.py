"""The same network for several images at once. Batch is always axis 0; where it is not, say so and stay with one."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from amc_mobile.errors import GraphError
from amc_mobile.graph.prepare import activations, attributes


def with_batch(model: onnx.ModelProto, batch: int) -> onnx.ModelProto:
    """A copy that takes (batch, ...) images. Raises: GraphError where an operator moves the batch axis."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    activations(graph)[0].type.tensor_type.shape.dim[0].dim_value = batch
    for output in graph.output:
        output.type.tensor_type.ClearField("shape")
    del graph.value_info[:]
    stored = {item.name: item for item in graph.initializer}
    for node in graph.node:
        _check(node, stored)
        if node.op_type in ("Reshape", "Expand") and node.input[1] in stored:
            _free_batch(stored[node.input[1]], node, batch)
    return copy


def _check(node: onnx.NodeProto, stored: dict[str, onnx.TensorProto]) -> None:
    values = attributes(node)
    moves = {
        "Transpose": lambda: next(iter(values.get("perm", [1]))) != 0,
        "Concat": lambda: values["axis"] == 0 or any(name in stored for name in node.input),
        "Gather": lambda: values.get("axis", 0) == 0,
        "Split": lambda: values.get("axis", 0) == 0,
        "Flatten": lambda: values.get("axis", 1) != 1,
        "Gemm": lambda: bool(values.get("transA", 0)),
    }
    axis_input = {"Squeeze": 1, "Unsqueeze": 1, "ReduceMean": 1, "ReduceSum": 1, "ReduceMax": 1, "Slice": 3}
    position = axis_input.get(node.op_type)
    bad = moves.get(node.op_type, lambda: False)()
    if position is not None and len(node.input) > position and node.input[position] in stored:
        bad = bad or 0 in numpy_helper.to_array(stored[node.input[position]]).tolist()
    if bad:
        raise GraphError(f"{node.op_type} {node.name} moves the batch axis: this network runs one image at a time")


def _free_batch(constant: onnx.TensorProto, node: onnx.NodeProto, batch: int) -> None:
    shape = numpy_helper.to_array(constant).copy()
    if len(shape) and shape[0] == 1:
        if node.op_type == "Reshape":  # 0 hands the batch on whatever it is
            shape[0] = batch if attributes(node).get("allowzero", 0) else 0
        constant.CopyFrom(numpy_helper.from_array(np.asarray(shape, np.int64), constant.name))
    elif node.op_type == "Reshape" and len(shape) and shape[0] > 1:
        raise GraphError(f"Reshape {node.name} merges the batch axis: this network runs one image at a time")

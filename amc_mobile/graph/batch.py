"""The same network for several images at once. Batch is always axis 0; where it is not, say so and stay with one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from amc_mobile.errors import GraphError
from amc_mobile.graph.prepare import activations, attributes

_DEFAULT_AXIS = {"Concat": 0, "Gather": 0, "Split": 0, "Flatten": 1}
_AXES_INPUT = {"Squeeze": 1, "Unsqueeze": 1, "ReduceMean": 1, "ReduceSum": 1, "ReduceMax": 1, "Slice": 3}


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


def _check(node: onnx.NodeProto, stored: Mapping[str, onnx.TensorProto]) -> None:
    if _moves_batch(node, stored):
        raise GraphError(f"{node.op_type} {node.name} moves the batch axis: this network runs one image at a time")


def _moves_batch(node: onnx.NodeProto, stored: Mapping[str, onnx.TensorProto]) -> bool:
    values = attributes(node)
    if node.op_type == "Transpose":
        return not values.get("perm") or values["perm"][0] != 0
    if node.op_type == "Gemm":
        return bool(values.get("transA", 0))
    if node.op_type == "Concat" and any(name in stored for name in node.input):
        return True
    if node.op_type in _DEFAULT_AXIS:
        return bool(values.get("axis", _DEFAULT_AXIS[node.op_type]) == 0)
    position = _AXES_INPUT.get(node.op_type, len(node.input))
    return position < len(node.input) and 0 in _axes(node.input[position], stored)


def _axes(name: str, stored: Mapping[str, onnx.TensorProto]) -> list[int]:
    return numpy_helper.to_array(stored[name]).reshape(-1).tolist() if name in stored else []


def _free_batch(constant: onnx.TensorProto, node: onnx.NodeProto, batch: int) -> None:
    shape = numpy_helper.to_array(constant).copy()
    if len(shape) and shape[0] == 1:
        if node.op_type == "Reshape":  # 0 hands the batch on whatever it is
            shape[0] = batch if attributes(node).get("allowzero", 0) else 0
        constant.CopyFrom(numpy_helper.from_array(np.asarray(shape, np.int64), constant.name))
    elif node.op_type == "Reshape" and len(shape) and shape[0] > 1:
        raise GraphError(f"Reshape {node.name} merges the batch axis: this network runs one image at a time")

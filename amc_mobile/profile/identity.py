"""Which network a latency table belongs to: its structure, not its weights, for these do not change its time."""

from __future__ import annotations

import hashlib

import onnx
from onnx import numpy_helper

from amc_mobile.graph.prepare import prepare, with_weights


def structure_sha256(model: onnx.ModelProto) -> str:
    """SHA-256 of operators, attributes, shapes and layer names; equal for every training of the same network.

    Names of intermediate tensors and of nodes, which exporters choose anew, do not count; names of weights do.
    Integer constants (shapes, axes, pads) and single numbers (clip limits) count with their values. Raises: GraphError.
    """
    plain, arrays, _shapes = prepare(model)  # constants folded: the same before and after a network is traced
    return _digest(with_weights(plain, arrays).graph)


def _digest(graph: onnx.GraphProto) -> str:
    digest = hashlib.sha256()
    stored = {item.name for item in graph.initializer}
    names = {item.name: f"input {place}" for place, item in enumerate(graph.input) if item.name not in stored}
    for item in graph.input:
        if item.name not in stored:
            digest.update(item.type.SerializeToString())
    for node in graph.node:
        for name in node.output:
            names.setdefault(name, f"tensor {len(names)}")
    constants = {item.name: _describe(item) for item in graph.initializer}
    for node in graph.node:
        inputs = [constants.get(name, names.get(name, name)) for name in node.input]
        attributes = [_attribute(item) for item in sorted(node.attribute, key=lambda item: item.name)]
        digest.update(repr((node.domain, node.op_type, inputs, len(node.output), attributes)).encode())
    digest.update(repr([names.get(item.name, item.name) for item in graph.output]).encode())
    return digest.hexdigest()


def _describe(tensor: onnx.TensorProto) -> str:
    """A constant in the structure: name and shape of a weight, the values of what steers an operator."""
    shape = tuple(tensor.dims)
    array = numpy_helper.to_array(tensor) if tensor.data_type != onnx.TensorProto.FLOAT or not shape else None
    if array is not None and array.size <= 64:
        return f"constant {tensor.data_type} {array.tolist()}"
    return f"{tensor.name} {tensor.data_type} {shape}"


def _attribute(attribute: onnx.AttributeProto) -> tuple[str, object]:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        return attribute.name, _describe(value)
    if isinstance(value, onnx.GraphProto):
        return attribute.name, _digest(value)
    return attribute.name, list(value) if hasattr(value, "__len__") and not isinstance(value, bytes) else value

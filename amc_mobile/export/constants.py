"""Constant folding: what does not depend on the network's input is computed once and becomes an initialiser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from amc_mobile.errors import GraphError
from amc_mobile.export.tensor_types import tensor_types

_STRETCHING = ("Reshape", "Unsqueeze", "Squeeze", "Expand", "Identity", "Cast", "CastLike")
_LEFT_ALONE = ("RandomNormal", "RandomUniform", "DequantizeLinear", "If", "Loop", "Scan")


@dataclass(frozen=True, slots=True)
class Stored:
    """Initialisers that hold a parameter in another form, by their names: the parameter's name."""

    transposed: Mapping[str, str]
    stretched: Mapping[str, str]  # with axes of length one added or taken away

    def then(self, later: Stored) -> Stored:
        """What is known after a second folding."""
        stretched = {name: self.stretched.get(source, source) for name, source in later.stretched.items()}
        return Stored({**self.transposed, **later.transposed}, {**self.stretched, **stretched})

    def among(self, names: set[str]) -> Stored:
        """Without the initialisers that are no longer there."""
        old = (self.transposed, self.stretched)
        return Stored(*({name: source for name, source in item.items() if name in names} for item in old))


def fold_constants(model: onnx.ModelProto) -> Stored:
    """Folds in place every node whose inputs are all known; takes out nodes that only hand on their input.

    Initialisers keep their names. A weight that is only used transposed is stored transposed, under its own name; so is
    one that is only used with further axes of length one. Returns: which initialisers these are.
    Raises: GraphError if a constant node cannot be computed.
    """
    known = _Known(model)
    outputs = {output.name for output in model.graph.output}
    aliases: dict[str, str] = {}
    nodes = []
    for node in model.graph.node:
        _rename_inputs(node, aliases)
        if outputs.intersection(node.output):
            nodes.append(node)
        elif _hands_on(node):
            aliases[node.output[0]] = node.input[0]
        elif not known.folds(node):
            nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    read = {name for node in nodes for name in node.input}
    model.graph.initializer.extend(known.tensor(name) for name in known.computed if name in read)
    drop_unused(model)
    return Stored(_rename(model, known.transposed), _rename(model, known.stretched))


def drop_unused(model: onnx.ModelProto) -> None:
    """Removes in place the nodes and initialisers whose values nobody reads."""
    alive = {output.name for output in model.graph.output}
    for index, node in reversed(list(enumerate(model.graph.node))):
        if alive.intersection(node.output):
            alive.update(node.input)
        else:
            del model.graph.node[index]
    for index, tensor in reversed(list(enumerate(model.graph.initializer))):
        if tensor.name not in alive:
            del model.graph.initializer[index]


class _Known:
    """The tensors whose values are known while the graph is walked in the order of execution."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._opsets = {entry.domain: entry.version for entry in model.opset_import}
        self._stored = {tensor.name: tensor for tensor in model.graph.initializer}
        self._types = tensor_types(model)
        self.computed: dict[str, np.ndarray] = {}
        self.transposed: dict[str, str] = {}  # computed tensor -> the stored weight of which it is the transpose
        self.stretched: dict[str, str] = {}  # computed tensor -> the stored parameter, with other axes of length one

    def folds(self, node: onnx.NodeProto) -> bool:
        """Whether all outputs of the node are known now."""
        if node.op_type in _LEFT_ALONE:
            return False
        if node.op_type == "Shape":
            return self._folds_shape(node)
        inputs = {name: self._value(name) for name in node.input if name}
        if node.op_type == "CastLike":  # only the type of its second input counts
            inputs[node.input[1]] = self._example(node.input[1])
        values = {name: value for name, value in inputs.items() if value is not None}
        if len(values) < len(inputs):
            return False
        self.computed.update(_evaluate(node, values, self._opsets))
        if node.op_type == "Transpose" and node.input[0] in self._stored:
            self.transposed[node.output[0]] = node.input[0]
        elif node.op_type in _STRETCHING:
            self._note_stretched(node.input[0], node.output[0])
        return True

    def tensor(self, name: str) -> onnx.TensorProto:
        """A computed value as an initialiser."""
        return numpy_helper.from_array(np.asarray(self.computed[name], order="C"), name)

    def _note_stretched(self, source: str, result: str) -> None:
        before, after = self._value(source), self.computed[result]
        origin = source if source in self._stored else self.stretched.get(source)
        if origin and before is not None and _long_axes(before) == _long_axes(after):
            self.stretched[result] = origin

    def _folds_shape(self, node: onnx.NodeProto) -> bool:
        shape = self._shape(node.input[0])
        if shape is None:
            return False
        limits = {item.name: item.i for item in node.attribute}
        self.computed[node.output[0]] = np.asarray(shape[limits.get("start", 0) : limits.get("end")], np.int64)
        return True

    def _shape(self, name: str) -> tuple[int, ...] | None:
        if name in self.computed:
            return self.computed[name].shape
        return self._types[name].shape if name in self._types else None

    def _value(self, name: str) -> np.ndarray | None:
        if name in self._stored:
            return numpy_helper.to_array(self._stored[name])
        return self.computed.get(name)

    def _example(self, name: str) -> np.ndarray | None:
        if name in self.computed:
            return self.computed[name]
        return np.zeros(1, self._types[name].dtype) if name in self._types else None


def _hands_on(node: onnx.NodeProto) -> bool:
    """Whether the node's first output is its first input: no dropout in a trained network, pools of one pixel."""
    if node.op_type in ("Identity", "Dropout"):
        return True
    values = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    ones = {number for name in ("kernel_shape", "strides", "dilations") for number in values.get(name, [1])}
    return (
        node.op_type == "AveragePool"
        and ones == {1}
        and not any(values.get("pads", []))
        and values.get("auto_pad", b"NOTSET") == b"NOTSET"
    )


def _evaluate(
    node: onnx.NodeProto, values: Mapping[str, np.ndarray], opsets: Mapping[str, int]
) -> dict[str, np.ndarray]:
    """The node's outputs by name, computed with the ONNX reference implementation."""
    try:
        results = ReferenceEvaluator(node, opsets=dict(opsets)).run(None, dict(values))
    except Exception as error:  # the reference implementation raises whatever numpy raises
        raise GraphError(f"cannot compute the constant node {node.name or node.op_type}: {error}") from error
    return {name: np.asarray(result) for name, result in zip(node.output, results, strict=False)}


def _long_axes(array: np.ndarray) -> list[int]:
    return [length for length in array.shape if length > 1]


def _rename(model: onnx.ModelProto, computed: Mapping[str, str]) -> dict[str, str]:
    """Gives an initialiser computed from a parameter the parameter's name, unless that is also used as it was."""
    stored = {tensor.name for tensor in model.graph.initializer}
    originals = {output: weight for output, weight in computed.items() if output in stored}
    names: dict[str, str] = {}
    for output, weight in originals.items():
        if weight not in stored and weight not in names.values():
            names[output] = weight
    for tensor in model.graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for node in model.graph.node:
        _rename_inputs(node, names)
    return {names.get(output, output): weight for output, weight in originals.items()}


def _rename_inputs(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    for position, name in enumerate(node.input):
        if name in names:
            node.input[position] = names[name]

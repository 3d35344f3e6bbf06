"""Folding batch normalisation into the convolution or linear layer before it, on the ONNX graph.

In eval mode a batch normalisation is the affine map y = gamma * (x - mean) / sqrt(var + eps) + beta per channel, so
that it merges with the affine layer in front of it (Jacob et al., CVPR 2018, section 3.2).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper


@dataclass(frozen=True, slots=True)
class Affine:
    """A batch normalisation as y = scale * x + shift per channel, float64."""

    scale: np.ndarray
    shift: np.ndarray

    @staticmethod
    def of(gamma: np.ndarray, beta: np.ndarray, mean: np.ndarray, variance: np.ndarray, epsilon: float) -> Affine:
        """The affine map of a batch normalisation in eval mode."""
        scale = gamma.astype(np.float64) / np.sqrt(variance.astype(np.float64) + epsilon)
        return Affine(scale, beta.astype(np.float64) - mean.astype(np.float64) * scale)

    def after(self, weight: np.ndarray, bias: np.ndarray | None, axis: int) -> tuple[np.ndarray, np.ndarray]:
        """Weight and bias of a layer followed by this map; `axis` is the weight's output axis."""
        column = [1] * weight.ndim
        column[axis] = -1
        folded = weight.astype(np.float64) * self.scale.reshape(column)
        shift = self.shift if bias is None else self.shift + bias.astype(np.float64) * self.scale
        return folded.astype(weight.dtype), shift.astype(weight.dtype)


def module_of(tensor: str) -> str:
    """The dotted module that owns a weight or running mean: "features.0.0.weight" -> "features.0.0".

    A weight that is no module's `weight` stands for itself: a raw parameter, a foreign file's tensor.
    """
    return tensor.removesuffix(".weight").removesuffix(".running_mean")


def output_axis(layer: onnx.NodeProto) -> int:
    """The axis of a Conv's or Gemm's weight along which its output channels lie."""
    return 0 if layer.op_type == "Conv" or _number(layer, "transB", 0) else 1


def fold_batch_norms(model: onnx.ModelProto) -> dict[str, str]:
    """Folds in place every BatchNormalization that directly follows a Conv or Gemm which nothing else reads.

    The layer's bias is named after its weight. Others (pre-activation, shared weights) stay as they are.
    Returns: the folded batch normalisation's module by the layer's module.
    """
    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    readers = Counter(name for node in graph.node for name in node.input)
    readers.update(output.name for output in graph.output)
    producers = {node.output[0]: node for node in graph.node}
    folded: dict[str, str] = {}
    for norm in [node for node in graph.node if node.op_type == "BatchNormalization"]:
        layer = producers.get(norm.input[0])
        if layer is None or not _foldable(layer, norm, tensors, readers):
            continue
        _fold_into(layer, norm, model, tensors)
        folded[module_of(layer.input[1])] = module_of(norm.input[3])
        layer.output[0] = norm.output[0]
        producers[layer.output[0]] = layer
        graph.node.remove(norm)
    return folded


def _foldable(
    layer: onnx.NodeProto, norm: onnx.NodeProto, tensors: dict[str, onnx.TensorProto], readers: Counter[str]
) -> bool:
    constants = [*layer.input[1:], *norm.input[1:]]
    plain = layer.op_type == "Conv" or (
        layer.op_type == "Gemm" and _number(layer, "alpha", 1) == _number(layer, "beta", 1) == 1
    )
    private = readers[layer.output[0]] == 1 and all(readers[name] == 1 for name in layer.input[1:])
    return plain and private and all(name in tensors for name in constants) and not _number(norm, "training_mode", 0)


def _fold_into(
    layer: onnx.NodeProto, norm: onnx.NodeProto, model: onnx.ModelProto, tensors: dict[str, onnx.TensorProto]
) -> None:
    gamma, beta, mean, variance = (numpy_helper.to_array(tensors[name]) for name in norm.input[1:5])
    affine = Affine.of(gamma, beta, mean, variance, _number(norm, "epsilon", 1e-5))
    bias = numpy_helper.to_array(tensors[layer.input[2]]) if len(layer.input) > 2 else None
    weight = numpy_helper.to_array(tensors[layer.input[1]])
    new_weight, new_bias = affine.after(weight, bias, output_axis(layer))
    tensors[layer.input[1]].CopyFrom(numpy_helper.from_array(new_weight, layer.input[1]))
    if bias is None:
        name = f"{module_of(layer.input[1])}.bias"
        while name in tensors:
            name += "_folded"
        layer.input.append(name)
        tensors[name] = model.graph.initializer.add()
    tensors[layer.input[2]].CopyFrom(numpy_helper.from_array(new_bias, layer.input[2]))


def _number(node: onnx.NodeProto, name: str, default: float) -> float:
    """An int or float attribute of a node."""
    for item in node.attribute:
        if item.name == name:
            return float(onnx.helper.get_attribute_value(item))
    return default

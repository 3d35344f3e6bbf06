"""The least-squares problems of a network: their weights as matrices (K, out), and which rows of those stay.

Row order is that of the weight: input channel, then kernel row, then kernel column; a grouped convolution is as many
problems as it has conv-groups. Convolutions and linear layers that read on axis 1 (PyTorch's order) and products that
read on axis 0 (transformers, foreign files) are both understood.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amc_mobile.graph.traced import Channels, TracedGraph
from amc_mobile.types import Layer

Columns = NDArray[np.int64]
Array = NDArray[Any]
Mask = NDArray[np.bool_]  # in the shape of a weight: True for what stays when single weights become zero
Masks = Mapping[str, Mask]  # by the name of the weight


@dataclass(frozen=True, slots=True)
class Problem:
    """What one weight, or conv-group `part` of `parts` of it, must imitate. Layers that share a weight are one problem.

    `axis` is the weight's axis that input channels run along; in a grouped convolution (axis 1) it holds one unit per
    channel of a conv-group, so that every part reads the same units. `biases` has one entry per layer.
    """

    name: str
    layers: tuple[Layer, ...]
    axis: int
    biases: tuple[str | None, ...]
    part: int = 0
    parts: int = 1

    @property
    def weight(self) -> str:
        """The name of the weight."""
        return self.layers[0].weight

    @property
    def intercept(self) -> bool:
        """Whether the outputs' means are free: every layer has a bias."""
        return all(bias is not None for bias in self.biases)

    def outputs(self, traced: TracedGraph, channels: Channels) -> Columns:
        """The outputs of this part that stay, numbered inside the part, ascending."""
        own = self.out_range(traced)
        positions = traced.positions(self.weight, 1 - self.axis, channels)
        return positions[(positions >= own.start) & (positions < own.stop)] - own.start

    def columns(self, traced: TracedGraph, channels: Channels) -> Columns:
        """The rows of the matrix whose input channels stay, ascending."""
        positions = traced.positions(self.weight, self.axis, channels)
        return channel_columns(positions, traced.weight(self.weight).shape[2:])

    def matrix(self, traced: TracedGraph) -> Array:
        """The original weight of this part, (K, out)."""
        own = self.out_range(traced)
        return to_matrix(traced.weight(self.weight), self.axis)[:, own.start : own.stop]

    def out_range(self, traced: TracedGraph) -> range:
        """This part's places among all outputs of the layer."""
        each = traced.weight(self.weight).shape[1 - self.axis] // self.parts
        return range(self.part * each, (self.part + 1) * each)


def problems(traced: TracedGraph, *, every: bool = False) -> tuple[Problem, ...]:
    """The problems of all layers that can lose input channels, in order of execution.

    Dense and grouped convolutions and linear layers. Of depthwise layers each input stays or goes with its output, so
    that nothing is left to repair; `every` gives all other layers too, whether they can lose inputs or not.
    """
    found: dict[str, list[Layer]] = {}
    for layer in traced.network.layers:
        loses = any(traced.network.groups[span.group].prunable for span in layer.in_spans)
        if layer.kind != "depthwise" and traced.weight(layer.weight).ndim in (2, 4) and (every or loses):
            found.setdefault(layer.weight, []).append(layer)
    added = _added_vectors(traced)
    made: list[Problem] = []
    for weight, layers in found.items():
        parts, axis = layers[0].groups, _input_axis(traced, layers[0])
        biases = tuple(layer.bias or added.get(layer.output) for layer in layers)
        for part in range(parts):
            name = weight if parts == 1 else f"{weight}[{part}]"
            made.append(Problem(name, tuple(layers), axis, biases, part, parts))
    return tuple(made)


def by_weight(all_problems: tuple[Problem, ...]) -> Mapping[str, tuple[Problem, ...]]:
    """The parts of every weight, in order."""
    found: dict[str, tuple[Problem, ...]] = {}
    for problem in all_problems:
        found[problem.weight] = (*found.get(problem.weight, ()), problem)
    return found


def to_matrix(weight: Array, axis: int) -> Array:
    """A weight that reads along `axis` as (K, out)."""
    return np.moveaxis(weight, 1 - axis, -1).reshape(-1, weight.shape[1 - axis])


def from_matrix(matrix: Array, axis: int, kernel: tuple[int, ...]) -> Array:
    """Undoes to_matrix; `kernel` is the weight's shape from axis 2 on."""
    return np.moveaxis(matrix.reshape(-1, *kernel, matrix.shape[1]), -1, 1 - axis)


def channel_columns(positions: Columns, kernel: tuple[int, ...]) -> Columns:
    """The matrix columns that belong to some positions along the weight's input axis, position by position."""
    taps = math.prod(kernel)
    return (positions[:, None] * taps + np.arange(taps)).reshape(-1)


def _input_axis(traced: TracedGraph, layer: Layer) -> int:
    """The axis of the layer's weight that its input channels run along: 1 unless the graph says otherwise."""
    axes = traced.axes.get(layer.weight, {}).items()
    return next((axis for axis, axis_map in axes if axis_map.reads), 1)


def _added_vectors(traced: TracedGraph) -> dict[str, str]:
    """Biases that stand in a node of their own behind their layer (MatMul, Add), by the layer's output."""
    found: dict[str, str] = {}
    widths = {layer.output: layer.out_channels for layer in traced.network.layers if layer.bias is None}
    shapes = {tensor.name: tensor.shape for tensor in traced.network.tensors}
    for node in traced.model.graph.node:
        if node.op_type == "Add":
            for tensor, vector in (node.input[:2], node.input[1::-1]):
                if tensor in widths and shapes.get(vector) == (widths[tensor],):
                    found[tensor] = vector
    return found

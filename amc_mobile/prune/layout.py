"""A layer's weight as the matrix (K, out) of its least-squares problem, and which columns of its input channels stay.

Column order is that of the weight: input channel, then kernel row, then kernel column. Convolutions and linear layers
that read on axis 1 (PyTorch's order) and products that read on axis 0 (foreign files) are both understood.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amc_mobile.graph.traced import Channels, TracedGraph
from amc_mobile.types import Layer

Columns = NDArray[np.int64]
Array = NDArray[Any]


def refittable(traced: TracedGraph) -> dict[str, list[Layer]]:
    """The layers that can lose input channels and be refitted, dense convolutions and linear layers, by their weight.

    Layers that share a weight are one problem. All others need nothing: their inputs stay, or are depthwise.
    """
    found: dict[str, list[Layer]] = {}
    for layer in traced.network.layers:
        dense = layer.kind == "linear" or (layer.kind == "conv" and layer.groups == 1)
        flat = traced.weight(layer.weight).ndim in (2, 4)
        if dense and flat and any(traced.network.groups[span.group].prunable for span in layer.in_spans):
            found.setdefault(layer.weight, []).append(layer)
    return found


def input_axis(traced: TracedGraph, layer: Layer) -> int:
    """The axis of the layer's weight that its input channels run along."""
    return next(axis for axis, axis_map in traced.axes[layer.weight].items() if axis_map.reads)


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


def kept_columns(traced: TracedGraph, layer: Layer, channels: Channels) -> Columns:
    """The matrix columns of the layer's input channels that stay, ascending."""
    axis = input_axis(traced, layer)
    positions = traced.positions(layer.weight, axis, channels)
    return channel_columns(positions, traced.weight(layer.weight).shape[2:])

"""How much an error in a layer's outputs matters for the logits, propagated backwards through weights and variances.

A mean squared error e on output j of a layer counts S_j e; at the network's own outputs S = 1 / (their mean variance).
An error on input i of a later layer reaches its outputs as W_ij² e, so that input i counts Σ_j W_ij² S_j. Between an
output and that input stand activations, depthwise layers and pools. They are taken to keep the relative error, hence
the factor var(input) / var(output). Where several layers add up to the same channels (a residual stream) an error is
handed on as it is, and the factor is at most one. The idea is that of importance propagation (Yu et al., CVPR 2018).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amc_mobile.graph.traced import TracedGraph
from amc_mobile.prune.gram import Grams
from amc_mobile.prune.layout import input_axis, refittable, to_matrix
from amc_mobile.prune.moments import Float
from amc_mobile.types import Layer

_FLOOR = 1e-9  # of the largest: no output's variance is taken to be smaller


@dataclass(frozen=True, slots=True)
class _Reader:
    """What one layer says about each channel of a group: its sensitivity to an error there, and the variance there."""

    sensitivity: NDArray[Any]
    variance: NDArray[Any]


def error_weights(traced: TracedGraph, grams: Grams) -> Mapping[str, Float]:
    """What a squared error on every output of every refittable layer weighs, (out,), by the name of the layer's weight.

    Scaled so that each layer's own variance weighs one: between layers, errors count relative to what there is.
    """
    readers: defaultdict[int, list[_Reader]] = defaultdict(list)
    weights: dict[str, Float] = {}
    for name, layers in reversed(refittable(traced).items()):
        gram = grams.layers[name]
        matrix = to_matrix(traced.weight(name), input_axis(traced, layers[0]))
        variance = gram.output_variances(matrix)
        variance = np.maximum(variance, _FLOOR * variance.max() or 1.0)
        sensitivity = _of_outputs(traced, layers[0], variance, readers)
        _read(traced, layers[0], np.square(matrix, dtype=np.float64) @ sensitivity, gram.variances(), readers)
        weights[name] = sensitivity / (sensitivity @ variance or 1.0)
    return weights


def _of_outputs(traced: TracedGraph, layer: Layer, variance: Float, readers: Mapping[int, list[_Reader]]) -> Float:
    """S of the layer's outputs, from the later layers that read them."""
    axis_map = traced.axes[layer.weight][1 - input_axis(traced, layer)]
    sensitivity = np.full(len(variance), 1 / variance.mean())
    for group in np.unique(axis_map.group).tolist():
        if readers.get(group):
            here = axis_map.group == group
            channel, own = axis_map.channel[here], variance[here]
            most = 1.0 if len(traced.network.groups[group].producers) > 1 else np.inf
            sensitivity[here] = sum(
                reader.sensitivity[channel] * np.minimum(reader.variance[channel] / own, most)
                for reader in readers[group]
            )
    return sensitivity


def _read(
    traced: TracedGraph, layer: Layer, columns: Float, variance: Float, readers: defaultdict[int, list[_Reader]]
) -> None:
    """Notes what the layer says about the channels that it reads; kernel positions and flattened maps are added up."""
    axis_map = traced.axes[layer.weight][input_axis(traced, layer)]
    by_position = columns.reshape(len(axis_map.group), -1).sum(axis=1)
    spread = variance.reshape(len(axis_map.group), -1).mean(axis=1)
    for group in {span.group for span in layer.in_spans}:
        here = axis_map.group == group
        channel, channels = axis_map.channel[here], traced.network.groups[group].channels
        count = np.bincount(channel, minlength=channels)
        total = np.bincount(channel, by_position[here], channels)
        mean = np.bincount(channel, spread[here], channels) / np.maximum(count, 1)
        readers[group].append(_Reader(total, mean))

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
from amc_mobile.prune.layout import Problem, problems
from amc_mobile.prune.moments import Float

_FLOOR = 1e-9  # of the largest: no output's variance is taken to be smaller


@dataclass(frozen=True, slots=True)
class _Reader:
    """What one layer says about each channel of a group: its sensitivity to an error there, and the variance there."""

    sensitivity: NDArray[Any]
    variance: NDArray[Any]


def error_weights(traced: TracedGraph, grams: Grams) -> Mapping[str, Float]:
    """What a squared error on every output of every problem (layout.py) weighs, (out,), by the problem's name.

    Scaled so that each layer's own variance weighs one: between layers, errors count relative to what there is.
    """
    readers: defaultdict[int, list[_Reader]] = defaultdict(list)
    weights: dict[str, Float] = {}
    for problem in reversed(problems(traced)):
        gram = grams.layers[problem.name]
        matrix = problem.matrix(traced)
        variance = gram.output_variances(matrix)
        variance = np.maximum(variance, _FLOOR * variance.max() or 1.0)
        sensitivity = _of_outputs(traced, problem, variance, readers)
        _read(traced, problem, np.square(matrix, dtype=np.float64) @ sensitivity, gram.variances(), readers)
        weights[problem.name] = sensitivity / (sensitivity @ variance or 1.0)
    return weights


def _of_outputs(traced: TracedGraph, problem: Problem, variance: Float, readers: Mapping[int, list[_Reader]]) -> Float:
    """S of the problem's outputs, from the later layers that read them."""
    axis_map = traced.axes[problem.weight][1 - problem.axis]
    own_range = problem.out_range(traced)
    groups, channels = (ids[own_range.start : own_range.stop] for ids in (axis_map.group, axis_map.channel))
    sensitivity = np.full(len(variance), 1 / variance.mean())
    for group in np.unique(groups).tolist():
        if readers.get(group):
            here = groups == group
            channel, own = channels[here], variance[here]
            most = 1.0 if len(traced.network.groups[group].producers) > 1 else np.inf
            sensitivity[here] = sum(
                reader.sensitivity[channel] * np.minimum(reader.variance[channel] / own, most)
                for reader in readers[group]
            )
    return sensitivity


def _read(
    traced: TracedGraph, problem: Problem, columns: Float, variance: Float, readers: defaultdict[int, list[_Reader]]
) -> None:
    """Notes what the problem says about the channels that it reads; kernel positions and flattened maps are added up.

    A channel of a grouped convolution stands for one channel in each part, and each part speaks of its own only.
    """
    axis_map = traced.axes[problem.weight][problem.axis]
    by_position = columns.reshape(len(axis_map.group), -1).sum(axis=1)
    spread = variance.reshape(len(axis_map.group), -1).mean(axis=1)
    for group in {span.group for span in problem.layers[0].in_spans}:
        here = axis_map.group == group
        channel, channels = axis_map.channel[here], traced.network.groups[group].channels
        count = np.bincount(channel, minlength=channels)
        total = np.bincount(channel, by_position[here], channels)
        mean = np.bincount(channel, spread[here], channels) / np.maximum(count, 1)
        readers[group].append(_Reader(total / problem.parts, mean))

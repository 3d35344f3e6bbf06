"""Which channels of a group matter: a ranking for every group, from most to least important."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from amc_mobile.errors import ConfigError
from amc_mobile.graph.traced import AxisMap, Channels, TracedGraph
from amc_mobile.prune.gram import Grams
from amc_mobile.prune.layout import input_axis, refittable, to_matrix
from amc_mobile.types import Layer, Policy

Method = Literal["l1", "activation", "reconstruction"]
Ranking = tuple[NDArray[np.int64], ...]  # for every group, all its channels from most to least important
Float = NDArray[np.float64]


def rank(traced: TracedGraph, method: Method, grams: Grams | None = None) -> Ranking:
    """The channels of every group by importance; pinned groups keep their order.

    "l1": the L1 norm of the consumers' weights per input channel (He et al. 2018). "activation": the same, each weight
    times the root mean square of the input it meets. A group with several consumers adds up their scores, each
    divided by its mean over the group, so that no layer dominates by scale.

    Raises: ConfigError for an unknown method, or one that needs `grams` and has none.
    """
    if method not in get_args(Method):
        raise ConfigError(f"unknown importance {method!r}; choose one of {', '.join(get_args(Method))}")
    if method != "l1" and grams is None:
        raise ConfigError(f"importance {method!r} needs calibration images; choose 'l1' or give some")
    scores = [np.zeros(group.channels) for group in traced.network.groups]
    for layers in refittable(traced).values():
        _add_consumer(scores, traced, layers[0], grams if method == "activation" else None)
    return tuple(
        np.argsort(-score, kind="stable") if group.prunable else np.arange(group.channels)
        for group, score in zip(traced.network.groups, scores, strict=True)
    )


def keep(policy: Policy, ranking: Ranking) -> Channels:
    """The channels that a policy keeps: the most important ones of each group, ascending."""
    return tuple(np.sort(order[:kept]) for order, kept in zip(ranking, policy.kept, strict=True))


def _add_consumer(scores: list[Float], traced: TracedGraph, layer: Layer, grams: Grams | None) -> None:
    axis = input_axis(traced, layer)
    axis_map: AxisMap = traced.axes[layer.weight][axis]
    columns = np.abs(to_matrix(traced.weight(layer.weight), axis)).sum(axis=1, dtype=np.float64)
    if grams is not None:
        columns = columns * np.sqrt(grams.layers[layer.weight].mean_squares())
    positions = columns.reshape(len(axis_map.group), -1).sum(axis=1)
    for group in np.unique(axis_map.group):
        here = axis_map.group == group
        score = np.bincount(axis_map.channel[here], positions[here], len(scores[group]))
        scores[group] += score / (score.mean() or 1.0)

"""Which channels of a group matter: a ranking for every group, from most to least important."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from amc_mobile.errors import ConfigError
from amc_mobile.graph.traced import Channels, TracedGraph
from amc_mobile.prune.elimination import rank_by_elimination
from amc_mobile.prune.gram import Grams
from amc_mobile.prune.layout import problems
from amc_mobile.types import Policy

Method = Literal["l1", "activation", "reconstruction"]
Ranking = tuple[NDArray[np.int64], ...]  # for every group, all its channels from most to least important


def rank(traced: TracedGraph, method: Method, grams: Grams | None = None) -> Ranking:
    """The channels of every group by importance; pinned groups keep their order.

    "l1": the L1 norm of the consumers' weights per input channel (He et al. 2018). "activation": the same, each weight
    times the root mean square of the input it meets. In both, several consumers of a group add up their scores, each
    divided by its mean over the group, so that no layer dominates by scale. "reconstruction": what least squares
    cannot repair when the channel goes (elimination.py); by far the best where layers are refitted, and the worse
    choice than "activation" where they are not. Takes seconds instead of milliseconds.

    Raises: ConfigError for an unknown method, or one that needs `grams` and has none.
    """
    if method not in get_args(Method):
        raise ConfigError(f"unknown importance {method!r}; choose one of {', '.join(get_args(Method))}")
    if method != "l1" and grams is None:
        raise ConfigError(f"importance {method!r} needs calibration images; choose 'l1' or give some")
    if method == "reconstruction" and grams is not None:
        orders = rank_by_elimination(traced, grams)
    else:
        orders = _rank_by_weights(traced, grams if method == "activation" else None)
    groups = traced.network.groups
    return tuple(orders.get(group.index, np.arange(group.channels)) for group in groups)


def keep(policy: Policy, ranking: Ranking) -> Channels:
    """The channels that a policy keeps: the most important ones of each group, ascending."""
    return tuple(np.sort(order[:kept]) for order, kept in zip(ranking, policy.kept, strict=True))


def _rank_by_weights(traced: TracedGraph, grams: Grams | None) -> dict[int, NDArray[np.int64]]:
    """Prunable groups by the absolute weights of their consumers, times the inputs' root mean square given grams."""
    groups = traced.network.groups
    scores = {group.index: np.zeros(group.channels) for group in groups if group.prunable}
    for problem in problems(traced):
        axis_map = traced.axes[problem.weight][problem.axis]
        columns = np.abs(problem.matrix(traced)).sum(axis=1, dtype=np.float64)
        if grams is not None:
            columns = columns * np.sqrt(grams.layers[problem.name].mean_squares())
        positions = columns.reshape(len(axis_map.group), -1).sum(axis=1)
        for group in scores.keys() & set(axis_map.group.tolist()):
            here = axis_map.group == group
            score = np.bincount(axis_map.channel[here], positions[here], groups[group].channels)
            scores[group] += score / (score.mean() or 1.0)
    return {group: np.argsort(-score, kind="stable") for group, score in scores.items()}

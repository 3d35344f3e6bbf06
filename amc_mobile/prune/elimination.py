"""Ranks channels by what least squares cannot repair: backward elimination on the layers' second moments.

Removing channel c from a layer whose other weights are refitted raises its squared error by tr(W_cᵀ (P_cc)⁻¹ W_c),
where P = (M + λI)⁻¹ and W are the inverse moments and the weights after all removals so far: the optimal brain
surgeon's saliency (Hassibi and Stork 1993) for a block of columns. Errors are weighted by how much they matter for the
logits (saliency.py) and added up over the layers that read the channel. The cheapest channels go first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from amc_mobile.graph.traced import TracedGraph
from amc_mobile.prune.gram import Grams
from amc_mobile.prune.layout import Problem, channel_columns, problems
from amc_mobile.prune.least_squares import absolute_ridge, factorise, inverted
from amc_mobile.prune.moments import WIDEST_GRAM, Float
from amc_mobile.prune.saliency import error_weights

Ids = NDArray[np.int64]
_RIDGE = 1e-2  # relative to M's mean diagonal, so that a few hundred images do not look exact
_ROUNDS = 64  # of removals for a group: after each, the losses of the channels that are left are computed again


class Consumer(Protocol):
    """One layer that reads a group, as far as channels are left."""

    def losses(self) -> Float:
        """What the removal of each channel that is left would cost, (C,)."""
        ...

    def remove(self, gone: Ids) -> None:
        """Takes out the channels at these places among those that are left."""
        ...


class RefittedConsumer:
    """A consumer whose other weights make up for what is removed.

    `inverse` is P (C * taps, C * taps) on the group's columns, `weight` (C * taps, out) times the root of what an error
    on each output weighs.
    """

    def __init__(self, inverse: Float, weight: Float, taps: int, rows: int) -> None:
        self._inverse = inverse
        self._weight = weight
        self._taps = taps
        self._rows = rows

    def losses(self) -> Float:
        """See Consumer."""
        channels = np.arange(len(self._weight) // self._taps)
        weight = self._weight.reshape(len(channels), self._taps, -1)
        shape = (len(channels), self._taps, len(channels), self._taps)
        blocks = self._inverse.reshape(shape)[channels, :, channels]
        losses: Float = np.einsum("cko,cko->c", weight, np.linalg.solve(blocks, weight)) / self._rows
        return losses

    def remove(self, gone: Ids) -> None:
        """See Consumer."""
        out = channel_columns(gone, (self._taps,))
        stay = np.delete(np.arange(len(self._weight)), out)
        across = self._inverse[np.ix_(stay, out)]
        gain = np.linalg.solve(self._inverse[np.ix_(out, out)], across.T).T
        self._inverse = self._inverse[np.ix_(stay, stay)]
        self._inverse -= gain @ across.T
        self._weight = self._weight[stay] - gain @ self._weight[out]


class PlainConsumer:
    """A consumer too wide for a Gram matrix: its losses are those without a refit, whatever else is removed."""

    def __init__(self, losses: Float) -> None:
        self._losses = losses

    def losses(self) -> Float:
        """See Consumer."""
        return self._losses

    def remove(self, gone: Ids) -> None:
        """See Consumer."""
        self._losses = np.delete(self._losses, gone)


def eliminate(consumers: Sequence[Consumer], channels: int) -> Ids:
    """All channels of a group from most to least important."""
    left = np.arange(channels)
    removed: list[Ids] = []
    step = max(1, channels // _ROUNDS)
    while len(left):
        cheapest = np.argsort(sum(consumer.losses() for consumer in consumers), kind="stable")
        gone = cheapest[: step if len(left) > step else len(left)]
        removed.append(left[gone])
        if len(gone) < len(left):
            for consumer in consumers:
                consumer.remove(gone)
        left = np.delete(left, gone)
    return np.concatenate(removed)[::-1]


def rank_by_elimination(traced: TracedGraph, grams: Grams) -> dict[int, Ids]:
    """For every prunable group that a problem's layer reads, its channels from most to least important."""
    errors = error_weights(traced, grams)
    last = {span.group: problem.name for problem in problems(traced) for span in problem.layers[0].in_spans}
    waiting: dict[int, list[Consumer]] = {}
    ranking: dict[int, Ids] = {}
    for problem in problems(traced):
        for group, consumer in _consumers(traced, grams, problem, errors[problem.name]).items():
            waiting.setdefault(group, []).append(consumer)
            if last[group] == problem.name:  # every reader is known: rank the group and forget the matrices
                ranking[group] = eliminate(waiting.pop(group), traced.network.groups[group].channels)
    return ranking


def _consumers(traced: TracedGraph, grams: Grams, problem: Problem, error_weight: Float) -> dict[int, Consumer]:
    """The layer, or one part of it, as a consumer of each prunable group that it reads."""
    gram, axis_map = grams.layers[problem.name], traced.axes[problem.weight][problem.axis]
    kernel = traced.weight(problem.weight).shape[2:]
    weight = problem.matrix(traced) * np.sqrt(error_weight)
    inverse = None
    if gram.columns <= WIDEST_GRAM:
        moments = gram.centred()[1] if problem.intercept else gram.gram()[:-1, :-1]
        inverse = inverted(factorise(moments, absolute_ridge(_RIDGE, np.diagonal(moments))))
    found: dict[int, Consumer] = {}
    for group in {span.group for span in problem.layers[0].in_spans}:
        if traced.network.groups[group].prunable:
            channels = traced.network.groups[group].channels
            here = np.flatnonzero(axis_map.group == group)
            places = here[np.argsort(axis_map.channel[here], kind="stable")]
            columns = channel_columns(places, kernel)
            if inverse is None:
                losses = np.square(weight[columns]).sum(axis=1) * gram.variances()[columns]
                found[group] = PlainConsumer(losses.reshape(channels, -1).sum(axis=1))
            else:
                block, taps = inverse[np.ix_(columns, columns)], len(columns) // channels
                found[group] = RefittedConsumer(block, weight[columns], taps, gram.rows)
    return found

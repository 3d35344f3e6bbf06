"""Channels by the size of weights: of those that read them (L1), or of those that make them (geometric median)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from amc_mobile.graph.traced import AxisMap, TracedGraph
from amc_mobile.prune.gram import Grams
from amc_mobile.prune.layout import by_weight, problems, to_matrix

Scores = NDArray[np.float64]
Orders = dict[int, NDArray[np.int64]]


def rank_by_weights(traced: TracedGraph, grams: Grams | None) -> Orders:
    """Prunable groups by the absolute weights of their consumers, times the inputs' root mean square given grams.

    Several consumers of a group add up their scores, each divided by its mean over the group, so that no layer
    dominates by scale.
    """
    tally = Tally(traced)
    for parts in by_weight(problems(traced)).values():
        rows: Scores = np.zeros(1)
        for part in parts:
            sums = np.abs(part.matrix(traced)).sum(axis=1, dtype=np.float64)
            rows = rows + (sums if grams is None else sums * np.sqrt(grams.layers[part.name].mean_squares()))
        axis_map = traced.axes[parts[0].weight][parts[0].axis]
        tally.add(axis_map, rows.reshape(len(axis_map.group), -1).sum(axis=1))
    return tally.orders()


def rank_by_medians(traced: TracedGraph) -> Orders:
    """Prunable groups by the distance of each producer's filters from all its other filters, summed up.

    The filter nearest to the geometric median says what the others say (He et al., FPGM, CVPR 2019). Needs no images.
    """
    tally = Tally(traced)
    for parts in by_weight(problems(traced, every=True)).values():
        axis_map = traced.axes.get(parts[0].weight, {}).get(1 - parts[0].axis)
        if axis_map is not None:
            filters = to_matrix(traced.weight(parts[0].weight), parts[0].axis).T.astype(np.float64)
            tally.add(axis_map, _distances(filters))
    return tally.orders()


class Tally:
    """Scores of the channels of every prunable group, added up over layers of different scale."""

    def __init__(self, traced: TracedGraph) -> None:
        self._groups = traced.network.groups
        self.scores = {group.index: np.zeros(group.channels) for group in self._groups if group.prunable}

    def add(self, axis_map: AxisMap, places: Scores) -> None:
        """Adds one layer's score of every place along an axis of its weight."""
        for group in self.scores.keys() & set(axis_map.group.tolist()):
            here = axis_map.group == group
            score = np.bincount(axis_map.channel[here], places[here], self._groups[group].channels)
            self.scores[group] += score / (score.mean() or 1.0)

    def orders(self) -> Orders:
        """The groups' channels from the highest to the lowest score; of equals, the first comes first."""
        return {group: np.argsort(-score, kind="stable") for group, score in self.scores.items()}


def _distances(filters: Scores) -> Scores:
    """The sum of each filter's Euclidean distances from all filters, (filters,)."""
    squares = np.square(filters).sum(axis=1)
    apart = squares[:, None] + squares - 2 * filters @ filters.T
    distances: Scores = np.sqrt(np.maximum(apart, 0.0)).sum(axis=1)
    return distances

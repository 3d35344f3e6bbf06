"""Channels by the mean rank of their feature maps: a map of low rank says little (Lin et al., HRank, CVPR 2020)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from amc_mobile.graph.traced import TracedGraph
from amc_mobile.prune.gram import tensor_session
from amc_mobile.prune.layout import Problem, by_weight, problems

MOST_IMAGES = 32  # the mean rank hardly moves from image to image (Lin et al. 2020, fig. 2)
_ENERGY = 1e-3  # of one rank: what the mean square of a channel counts, to tell channels of equal rank apart

Maps = NDArray[np.float32]


def rank_by_feature_maps(traced: TracedGraph, images: Maps) -> dict[int, NDArray[np.int64]]:
    """Prunable groups by the mean rank of their channels' maps, as their first consumer reads them.

    Images are (N, C, H, W), of which the first 32 are used. Maps of one place have rank one or nothing: there, and
    among equal ranks, the mean square decides.
    """
    readers: dict[int, Problem] = {}
    for parts in by_weight(problems(traced)).values():
        for span in parts[0].layers[0].in_spans:
            if traced.network.groups[span.group].prunable:
                readers.setdefault(span.group, parts[0])
    tensors = {problem.layers[0].input for problem in readers.values()}
    scores = _scores(traced, sorted(tensors), {p.layers[0].input: p for p in readers.values()}, images[:MOST_IMAGES])
    orders = {}
    for group, problem in readers.items():
        axis_map = traced.axes[problem.weight][problem.axis]
        here = axis_map.group == group
        places = scores[problem.layers[0].input].reshape(problem.parts, len(here), -1).sum(axis=(0, 2))
        score = np.bincount(axis_map.channel[here], places[here], traced.network.groups[group].channels)
        orders[group] = np.argsort(-score, kind="stable")
    return orders


def _scores(
    traced: TracedGraph, tensors: list[str], readers: dict[str, Problem], images: Maps
) -> dict[str, NDArray[np.float64]]:
    """The mean score of every input channel of the layers that read the tensors."""
    if not tensors:
        return {}
    session = tensor_session(traced.model, tensors, None)
    entry = session.get_inputs()[0]
    totals = {name: np.zeros(readers[name].layers[0].in_channels) for name in tensors}
    for start in range(0, len(images), entry.shape[0]):
        part = images[start : start + entry.shape[0]]
        batch = np.zeros((entry.shape[0], *images.shape[1:]), np.float32)
        batch[: len(part)] = part
        for name, tensor in zip(tensors, session.run(tensors, {entry.name: batch}), strict=True):
            layer = readers[name].layers[0]
            if layer.kind == "linear":  # (batch, ..., K): every channel is one column of places
                rows = tensor.reshape(len(batch), -1, layer.in_channels).transpose(0, 2, 1)[..., None]
            else:
                rows = tensor
            totals[name] += _of_maps(rows[: len(part)]).sum(axis=0)
    return {name: total / len(images) for name, total in totals.items()}


def _of_maps(maps: Maps) -> NDArray[np.float64]:
    """Rank of every map of (N, C, H, W), plus its share of the energy as a decimal: (N, C)."""
    energy = np.square(maps, dtype=np.float64).mean(axis=(2, 3))
    share = energy / (energy.max(axis=1, keepdims=True) + np.finfo(np.float64).tiny)
    ranks = maps.any(axis=(2, 3)) if min(maps.shape[2:]) == 1 else np.asarray(np.linalg.matrix_rank(maps))
    scores: NDArray[np.float64] = ranks.astype(np.float64) + _ENERGY * share
    return scores

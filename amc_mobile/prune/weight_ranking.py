"""Ranks the single weights of every layer, for fine-grained pruning: which go first, which stay longest.

"reconstruction" asks what least squares cannot repair. Where the other weights of an output are refitted, the removal
of weight j raises its squared error by w_j² / P_jj, with P = (M + λI)⁻¹ the inverse moments of the inputs and w the
weights after all removals so far: the optimal brain surgeon's saliency (Hassibi and Stork 1993). Every output of a
layer is emptied by itself, the cheapest weights first, and the outputs' removals are merged by their losses (Frantar
and Alistarh, Optimal Brain Compression, NeurIPS 2022). Not in He et al. 2018, who prune by magnitude.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from amc_mobile.device.protocol import Progress
from amc_mobile.errors import ConfigError
from amc_mobile.graph.traced import TracedGraph
from amc_mobile.prune.gram import Grams
from amc_mobile.prune.layout import by_weight, from_matrix, problems
from amc_mobile.prune.least_squares import absolute_ridge, factorise, inverted
from amc_mobile.prune.moments import WIDEST_GRAM, Float, LayerGram

WeightMethod = Literal["reconstruction", "activation", "l1"]
Run = Callable[[Callable[[Float], Float], Float], Iterable[Float]]  # as map
WeightRanking = Mapping[str, NDArray[np.int64]]  # by the weight's name: its places, from most to least important

_RIDGE = 1e-2  # relative to M's mean diagonal, so that a few hundred images do not look exact
_ROUNDS = 48  # of removals for an output: after each, the losses of the weights that are left are computed again
_FULL = 0.7  # of the columns must be left, or the others are taken out of the matrix
_MOST_WORK = 10**12  # outputs times columns³ that are emptied at once: about a minute


def check_method(method: str) -> None:
    """Raises: ConfigError for an importance that single weights do not have."""
    if method not in get_args(WeightMethod):
        raise ConfigError(
            f"importance {method!r} ranks whole channels; with search.granularity 'weight' choose one of "
            f"{', '.join(get_args(WeightMethod))}"
        )


def rank_weights(
    traced: TracedGraph,
    method: str,
    grams: Grams | None = None,
    *,
    threads: int = 1,
    progress: Progress | None = None,
) -> WeightRanking:
    """All weights of every layer by importance, in their flat places; equals stay in order.

    * "reconstruction": what least squares cannot repair. A layer so wide that this would take minutes is emptied in
      blocks of its inputs, each as if the others stayed whole, and one too wide for a Gram matrix as by "activation".
    * "activation": the weight times the root mean square (about the mean) of the input it meets.
    * "l1": its magnitude (He et al. 2018, Han et al. 2015). Depthwise layers are always ranked so.

    Args:
        grams: second moments of every layer's inputs (`collect` with `every`); "l1" needs none.
        threads: outputs that are emptied at the same time.

    Raises: ConfigError for a method that ranks channels only, or that lacks its moments.
    """
    check_method(method)
    scores: dict[str, NDArray[np.floating]] = {
        layer.weight: np.abs(traced.weight(layer.weight)) for layer in traced.network.layers
    }
    if method != "l1":
        if grams is None:
            raise ConfigError(f"importance {method!r} needs calibration images; choose 'l1' or give some")
        lost = _once if method == "activation" else _repaired
        layers = by_weight(problems(traced, every=True))
        with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
            for number, (weight, parts) in enumerate(layers.items()):
                found = [
                    lost(grams.layers[part.name], part.matrix(traced).astype(np.float64), part.intercept, pool.map)
                    for part in parts
                ]
                kernel = traced.weight(weight).shape[2:]
                scores[weight] = from_matrix(np.concatenate(found, axis=1), parts[0].axis, kernel)
                if progress is not None:
                    progress(number + 1, len(layers), "ranking the weights, layer after layer")
    return {weight: np.argsort(-score.reshape(-1), kind="stable") for weight, score in scores.items()}


def _once(gram: LayerGram, weight: Float, intercept: bool, run: Run) -> Float:
    """What each weight (K, out) costs if it goes alone and nothing is refitted."""
    squares = gram.variances() if intercept else gram.mean_squares()
    return np.square(weight) * squares[:, None]


def _repaired(gram: LayerGram, weight: Float, intercept: bool, run: Run) -> Float:
    """What each weight (K, out) costs when its turn comes, all others being refitted."""
    columns, outputs = weight.shape
    if columns > WIDEST_GRAM:
        return _once(gram, weight, intercept, run)
    moments = gram.centred()[1] if intercept else gram.gram()[:-1, :-1]
    inverse = inverted(factorise(moments, absolute_ridge(_RIDGE, np.diagonal(moments))))
    losses = np.empty_like(weight)
    for block in np.array_split(np.arange(columns), math.ceil(math.sqrt(outputs * columns**3 / _MOST_WORK))):
        own = inverse[np.ix_(block, block)]
        losses[block] = np.stack(list(run(partial(emptied, own), weight[block].T)), axis=1)
    return losses


def emptied(inverse: Float, weight: Float) -> Float:
    """The loss at which each weight (K,) of one output goes, (K,): what the costliest removal up to it costs.

    `inverse` is P (K, K). A weight that goes later never has a smaller loss than one that went before.
    """
    step, left = max(1, len(weight) // _ROUNDS), np.arange(len(weight))
    losses, worst = np.empty(len(weight)), 0.0
    inverse, stays = inverse.copy(), np.ones(len(weight), bool)
    lost = np.empty_like(inverse)
    while True:
        costs = np.full(len(left), np.inf)
        costs[stays] = np.square(weight[stays]) / np.diagonal(inverse)[stays]
        gone = np.argsort(costs, kind="stable")[: min(step, np.count_nonzero(stays))]
        losses[left[gone]] = np.maximum(costs[gone], worst)
        worst = np.nextafter(losses[left[gone[-1]]], np.inf)  # no tie with what goes later
        stays[gone] = False
        if not stays.any():
            return losses
        across = inverse[:, gone]
        gain = np.linalg.solve(inverse[np.ix_(gone, gone)], across.T).T
        weight = weight - gain @ weight[gone]
        inverse -= np.matmul(gain, across.T, out=lost)
        if np.count_nonzero(stays) < _FULL * len(left):
            inverse = inverse[np.ix_(stays, stays)]
            lost = np.empty_like(inverse)
            weight, left, stays = weight[stays], left[stays], np.ones(np.count_nonzero(stays), bool)

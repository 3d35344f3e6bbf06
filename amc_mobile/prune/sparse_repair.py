"""The least-squares repair of layers that lose single weights: every output imitates what it was with what it keeps.

With M the second moments of the layer's inputs, w an output's original weights and S those that stay, the refit is
    w_S = (M + λI)_SS⁻¹ ((M + λI) w)_S:
that of least_squares.py, but each output keeps a set of its own. Not in He et al. 2018, who only train after cutting.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve

from amc_mobile.errors import DataError
from amc_mobile.graph.traced import TracedGraph
from amc_mobile.prune.gram import Grams
from amc_mobile.prune.layout import Problem, by_weight, from_matrix, problems, to_matrix
from amc_mobile.prune.least_squares import absolute_ridge, factorise
from amc_mobile.prune.moments import WIDEST_GRAM, Float
from amc_mobile.prune.reconstruct import MEMO_BYTES, Answer, Memo

Mask = NDArray[np.bool_]


class SparseReconstructor:
    """Refitted weights for masks, from Gram matrices of every layer (`collect` with `every`). Answers are remembered.

    Depthwise layers, and layers too wide for a Gram matrix, are left as they were cut.
    """

    def __init__(self, traced: TracedGraph, grams: Grams, ridge: float) -> None:
        """Raises: DataError if `grams` are of another network, or not of every layer."""
        self._traced, self._grams, self._ridge = traced, grams, ridge
        self._parts = by_weight(problems(traced, every=True))
        missing = [part.name for parts in self._parts.values() for part in parts if part.name not in grams.layers]
        if missing:
            raise DataError(f"the Gram matrices lack {missing[0]}: they belong to another network; collect them again")
        self._memo = Memo(MEMO_BYTES)

    def weights(self, name: str, mask: Mask) -> dict[str, NDArray[np.generic]]:
        """The refitted weight `name`, zero where `mask` (of its shape) is False, and its layers' biases, by name.

        Nothing where all weights stay, or none can be refitted.
        """
        parts = self._parts.get(name, ())
        if not parts or mask.all() or self._grams.layers[parts[0].name].columns > WIDEST_GRAM:
            return {}
        answers = [self._answer(part, mask) for part in parts]
        axis, shape = parts[0].axis, self._traced.weight(name).shape
        whole = [from_matrix(matrix, axis, shape[2:]) for matrix, _ in answers]
        change = np.concatenate([change for _, change in answers])
        arrays: dict[str, NDArray[np.generic]] = {name: np.ascontiguousarray(np.concatenate(whole, 1 - axis))}
        for bias in parts[0].biases:
            if bias is not None:
                arrays[bias] = self._traced.weight(bias) + change
        return arrays

    def _answer(self, part: Problem, mask: Mask) -> Answer:
        own = part.out_range(self._traced)
        stays = to_matrix(mask, part.axis)[:, own.start : own.stop]
        key = (part.name, np.packbits(stays).tobytes())
        answer = self._memo.get(key)
        if answer is None:
            answer = self._solve(part, stays)
            self._memo.put(key, answer)
        return answer

    def _solve(self, part: Problem, stays: Mask) -> Answer:
        gram, weight = self._grams.layers[part.name], part.matrix(self._traced).astype(np.float64)
        mean: Float = np.zeros(len(weight))
        if part.intercept:
            mean, moments = gram.centred()
        else:
            moments = gram.gram()[:-1, :-1]
        ridge = absolute_ridge(self._ridge, np.diagonal(moments))
        target = moments @ weight + ridge * weight
        refit = np.zeros_like(weight)
        for output in range(weight.shape[1]):
            kept = np.flatnonzero(stays[:, output])
            if len(kept):
                factor = factorise(moments[np.ix_(kept, kept)], ridge)
                refit[kept, output] = cho_solve((factor, True), target[kept, output], check_finite=False)
        change = mean @ weight - mean @ refit if part.intercept else np.zeros(weight.shape[1])
        return refit.astype(np.float32), change.astype(np.float32)

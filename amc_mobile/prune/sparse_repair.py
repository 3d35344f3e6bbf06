"""The least-squares repair of layers that lose single weights: every output imitates what it was with what it keeps.

The refit is that of least_squares.py, but each output keeps a set of its own. Not in He et al. 2018.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from amc_mobile.errors import DataError
from amc_mobile.graph.traced import TracedGraph, first_channels
from amc_mobile.prune.gram import Grams
from amc_mobile.prune.layout import Mask, Problem, by_weight, problems, to_matrix
from amc_mobile.prune.least_squares import MaskedRefit
from amc_mobile.prune.moments import WIDEST_GRAM
from amc_mobile.prune.reconstruct import MEMO_BYTES, Answer, Memo, assembled


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
        self._whole = first_channels(traced.network.full())
        self._solvers: dict[str, MaskedRefit] = {}
        self._memo = Memo(MEMO_BYTES)

    def weights(self, name: str, mask: Mask) -> dict[str, NDArray[np.generic]]:
        """The refitted weight `name`, zero where `mask` (of its shape) is False, and its layers' biases, by name.

        Nothing where all weights stay, or none can be refitted.
        """
        parts = self._parts.get(name, ())
        if not parts or mask.all() or self._grams.layers[parts[0].name].columns > WIDEST_GRAM:
            return {}
        return assembled(self._traced, parts, self._whole, [self._answer(part, mask) for part in parts])

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
        if part.name not in self._solvers:
            gram, weight = self._grams.layers[part.name], part.matrix(self._traced).astype(np.float64)
            self._solvers[part.name] = MaskedRefit(gram, weight, intercept=part.intercept, ridge=self._ridge)
        refit, change = self._solvers[part.name].solve_each(stays)
        return refit.astype(np.float32), change.astype(np.float32)

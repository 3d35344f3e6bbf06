"""Refitted weights for any policy: each layer that lost inputs imitates its original outputs as well as it can.

The answer depends on the layer and its kept input columns only, never on what else was pruned (inputs and targets are
the original network's), so answers are remembered: a search meets the same widths again and again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from amc_mobile.errors import DataError
from amc_mobile.graph.traced import Channels, TracedGraph
from amc_mobile.prune.gram import Grams
from amc_mobile.prune.importance import Ranking
from amc_mobile.prune.layout import Problem, by_weight, channel_columns, from_matrix, problems
from amc_mobile.prune.least_squares import Refit, refit_problem

MEMO_BYTES = 512 * 2**20  # VGG-16's first linear layer alone takes 400 MB

Array = NDArray[np.float32]
Answer = tuple[Array, Array]  # weight (K kept, out), bias change (out,)


class Reconstructor:
    """Least-squares repair from the Gram matrices of the original network."""

    def __init__(self, traced: TracedGraph, grams: Grams, ridge: float, ranking: Ranking | None = None) -> None:
        """`ranking` says which sets of channels to expect: the first ones of each order are solved much faster.

        Raises: DataError if `grams` were collected for another network.
        """
        self._traced = traced
        self._grams = grams
        self._ridge = ridge
        self._ranking = ranking
        self._problems = problems(traced)
        self._solvers: dict[str, Refit] = {}
        self._memo = Memo(MEMO_BYTES)
        missing = [problem.name for problem in self._problems if problem.name not in grams.layers]
        if missing:
            raise DataError(f"the Gram matrices lack {missing[0]}: they belong to another network; collect them again")

    def weights(self, channels: Channels) -> dict[str, NDArray[np.generic]]:
        """Weight and bias of every layer whose input lost channels, by initialiser name, in their sliced shapes."""
        arrays: dict[str, NDArray[np.generic]] = {}
        for parts in by_weight(self._problems).values():
            columns = parts[0].columns(self._traced, channels)
            if len(columns) < self._grams.layers[parts[0].name].columns:
                answers = [self._solve(part, columns) for part in parts]
                arrays |= assembled(self._traced, parts, channels, answers)
        return arrays

    def _solve(self, problem: Problem, columns: NDArray[np.int64]) -> Answer:
        key = (problem.name, columns.tobytes())
        answer = self._memo.get(key)
        if answer is None:
            if problem.name not in self._solvers:
                self._solvers[problem.name] = self._solver(problem)
            matrix, bias_change = self._solvers[problem.name].solve(columns)
            answer = (matrix.astype(np.float32, copy=False), bias_change.astype(np.float32))
            self._memo.put(key, answer)
        return answer

    def _solver(self, problem: Problem) -> Refit:
        return refit_problem(
            self._grams.layers[problem.name],
            problem.matrix(self._traced),
            intercept=problem.intercept,
            ridge=self._ridge,
            order=self._order(problem),
        )

    def _order(self, problem: Problem) -> NDArray[np.int64] | None:
        """All columns by importance, if one group is all that the layer reads."""
        if self._ranking is None or len(problem.layers[0].in_spans) != 1:
            return None
        axis_map = self._traced.axes[problem.weight][problem.axis]
        rank_of = np.argsort(self._ranking[problem.layers[0].in_spans[0].group])
        positions = np.argsort(rank_of[axis_map.channel], kind="stable")
        return channel_columns(positions, self._traced.weight(problem.weight).shape[2:])


def assembled(
    traced: TracedGraph, parts: Sequence[Problem], channels: Channels, answers: Sequence[Answer]
) -> dict[str, NDArray[np.generic]]:
    """The sliced weight and biases of one layer from the answers of all its parts, by initialiser name."""
    outputs = [part.outputs(traced, channels) for part in parts]
    kernel = traced.weight(parts[0].weight).shape[2:]
    kept = [matrix[:, stay] for (matrix, _), stay in zip(answers, outputs, strict=True)]
    whole = [from_matrix(matrix, parts[0].axis, kernel) for matrix in kept]
    axis = 1 - parts[0].axis
    arrays: dict[str, NDArray[np.generic]] = {
        parts[0].weight: np.ascontiguousarray(np.concatenate(whole, axis) if len(whole) > 1 else whole[0])
    }
    stays = np.concatenate([stay + part.out_range(traced).start for part, stay in zip(parts, outputs, strict=True)])
    change = np.concatenate([change for _, change in answers])
    for bias in parts[0].biases:
        if bias is not None:
            arrays[bias] = (traced.weight(bias) + change)[..., stays]
    return arrays


class Memo:
    """Answers by key, the oldest forgotten when their bytes exceed a limit."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._bytes = 0
        self._answers: OrderedDict[tuple[str, bytes], Answer] = OrderedDict()

    def get(self, key: tuple[str, bytes]) -> Answer | None:
        """The answer, which becomes the youngest."""
        if key in self._answers:
            self._answers.move_to_end(key)
        return self._answers.get(key)

    def put(self, key: tuple[str, bytes], answer: Answer) -> None:
        """Remembers an answer."""
        self._answers[key] = answer
        self._bytes += sum(array.nbytes for array in answer)
        while self._bytes > self._limit_bytes:
            _, oldest = self._answers.popitem(last=False)
            self._bytes -= sum(array.nbytes for array in oldest)

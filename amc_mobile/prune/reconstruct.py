"""Refitted weights for any policy: each layer that lost inputs imitates its original outputs as well as it can.

The answer depends on the layer and its kept input columns only, never on what else was pruned (inputs and targets are
the original network's), so answers are remembered: a search meets the same widths again and again.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from amc_mobile.errors import DataError
from amc_mobile.graph.traced import Channels, TracedGraph
from amc_mobile.prune.gram import Grams
from amc_mobile.prune.importance import Ranking
from amc_mobile.prune.layout import channel_columns, from_matrix, input_axis, kept_columns, refittable, to_matrix
from amc_mobile.prune.least_squares import Refit, refit_problem
from amc_mobile.types import Layer

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
        self._layers = refittable(traced)
        self._problems: dict[str, Refit] = {}
        self._memo = Memo(MEMO_BYTES)
        missing = [weight for weight in self._layers if weight not in grams.layers]
        if missing:
            raise DataError(f"the Gram matrices lack {missing[0]}: they belong to another network; collect them again")

    def weights(self, channels: Channels) -> dict[str, NDArray[np.generic]]:
        """Weight and bias of every layer whose input lost channels, by initialiser name, in their sliced shapes."""
        arrays: dict[str, NDArray[np.generic]] = {}
        for weight, layers in self._layers.items():
            columns = kept_columns(self._traced, layers[0], channels)
            if len(columns) < self._grams.layers[weight].columns:
                matrix, bias_change = self._solve(weight, columns)
                self._fill(arrays, layers, channels, matrix, bias_change)
        return arrays

    def _fill(
        self,
        arrays: dict[str, NDArray[np.generic]],
        layers: list[Layer],
        channels: Channels,
        matrix: Array,
        bias_change: Array,
    ) -> None:
        weight, axis = layers[0].weight, input_axis(self._traced, layers[0])
        outputs = self._traced.positions(weight, 1 - axis, channels)
        kernel = self._traced.weight(weight).shape[2:]
        arrays[weight] = np.ascontiguousarray(from_matrix(matrix[:, outputs], axis, kernel))
        for layer in layers:
            if layer.bias is not None:
                arrays[layer.bias] = (self._traced.weight(layer.bias) + bias_change)[..., outputs]

    def _solve(self, weight: str, columns: NDArray[np.int64]) -> Answer:
        key = (weight, columns.tobytes())
        answer = self._memo.get(key)
        if answer is None:
            if weight not in self._problems:
                self._problems[weight] = self._problem(weight)
            matrix, bias_change = self._problems[weight].solve(columns)
            answer = (matrix.astype(np.float32, copy=False), bias_change.astype(np.float32))
            self._memo.put(key, answer)
        return answer

    def _problem(self, weight: str) -> Refit:
        layers = self._layers[weight]
        axis = input_axis(self._traced, layers[0])
        return refit_problem(
            self._grams.layers[weight],
            to_matrix(self._traced.weight(weight), axis),
            intercept=all(layer.bias is not None for layer in layers),
            ridge=self._ridge,
            order=self._order(layers[0], axis),
        )

    def _order(self, layer: Layer, axis: int) -> NDArray[np.int64] | None:
        """All columns by importance, if one group is all that the layer reads."""
        if self._ranking is None or len(layer.in_spans) != 1:
            return None
        axis_map = self._traced.axes[layer.weight][axis]
        rank_of = np.argsort(self._ranking[layer.in_spans[0].group])
        positions = np.argsort(rank_of[axis_map.channel], kind="stable")
        return channel_columns(positions, self._traced.weight(layer.weight).shape[2:])


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

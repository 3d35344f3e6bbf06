"""Second moments of one layer's sampled input rows: all that its least-squares problem ever asks for.

For a layer Y = X W + b the normal equations of every pruned variant are blocks of G = [X 1]ᵀ[X 1], and the target needs
no second pass: [X 1]ᵀ Y = G [W; b]. A layer with more input columns than sampled rows keeps the rows themselves, which
is smaller and loses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WIDEST_GRAM = 6000  # input columns; a wider layer (VGG's first linear layer has 25,088) always keeps its rows
_CHUNK = 1024  # rows gathered before they are added to a Gram matrix

Float = NDArray[np.float64]
Rows = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class LayerGram:
    """One layer's inputs: the Gram matrix (K + 1, K + 1) of `rows` sampled rows with a ones column last, or the rows.

    `samples` is (rows, K), and is set exactly if `matrix` is None.
    """

    rows: int
    matrix: Float | None
    samples: Rows | None

    def __post_init__(self) -> None:
        if (self.matrix is None) == (self.samples is None):
            raise ValueError("a layer has either a Gram matrix or samples")

    @property
    def columns(self) -> int:
        """K: input channels x kernel height x kernel width."""
        return len(self.matrix) - 1 if self.matrix is not None else self.kept_samples().shape[1]

    def gram(self) -> Float:
        """G = [X 1]ᵀ[X 1], (K + 1, K + 1), computed from the rows where those are kept."""
        return self.matrix if self.matrix is not None else gram_of(self.kept_samples())

    def kept_samples(self) -> Rows:
        """The sampled rows (rows, K) of a layer that has no matrix."""
        if self.samples is None:
            raise ValueError("this layer's rows were added up and not kept")
        return self.samples

    def mean_squares(self) -> Float:
        """Mean of the square of every input column, (K,)."""
        if self.matrix is not None:
            squares: Float = np.diagonal(self.matrix)[:-1].astype(np.float64)
        else:
            squares = np.square(self.kept_samples(), dtype=np.float64).sum(axis=0)
        return squares / self.rows

    def means(self) -> Float:
        """Mean of every input column, (K,)."""
        if self.matrix is not None:
            means: Float = self.matrix[:-1, -1] / self.rows
        else:
            means = self.kept_samples().mean(axis=0, dtype=np.float64)
        return means

    def variances(self) -> Float:
        """Variance of every input column, (K,); rounding never makes it negative."""
        return np.maximum(self.mean_squares() - np.square(self.means()), 0.0)

    def output_variances(self, weight: Float) -> Float:
        """Variance of the outputs of a layer with `weight` (K, out), (out,); never negative."""
        if self.matrix is None:
            variances: Float = np.var(self.kept_samples() @ weight, axis=0, dtype=np.float64)
            return variances
        _, moments = self.centred()
        variances = np.einsum("ko,ko->o", weight, moments @ weight) / self.rows
        return np.maximum(variances, 0.0)

    def centred(self) -> tuple[Float, Float]:
        """Means (K,) and XᵀX of the rows about them (K, K)."""
        means = self.means()
        return means, self.gram()[:-1, :-1] - self.rows * np.outer(means, means)


class Accumulator:
    """Adds up one layer's rows, in the order given: the same rows give the same LayerGram, bit for bit."""

    def __init__(self, columns: int, total_rows: int) -> None:
        smaller_as_rows = total_rows * columns * 4 < (columns + 1) * (columns + 2) // 2 * 8
        self._matrix = None if smaller_as_rows or columns > WIDEST_GRAM else np.zeros((columns + 1, columns + 1))
        self._waiting: list[Rows] = []
        self._rows = 0

    def add(self, rows: Rows) -> None:
        """Takes rows (n, K)."""
        self._waiting.append(rows)
        self._rows += len(rows)
        if self._matrix is not None and sum(map(len, self._waiting)) >= _CHUNK:
            self._flush(self._matrix)

    def finish(self) -> LayerGram:
        """Everything added so far."""
        if self._matrix is None:
            return LayerGram(self._rows, None, np.concatenate(self._waiting))
        if self._waiting:
            self._flush(self._matrix)
        return LayerGram(self._rows, self._matrix, None)

    def _flush(self, matrix: Float) -> None:
        matrix += gram_of(np.concatenate(self._waiting))
        self._waiting.clear()


def gram_of(rows: Rows) -> Float:
    """[X 1]ᵀ[X 1] of rows X (n, K), added in float64: (K + 1, K + 1)."""
    extended = np.ones((len(rows), rows.shape[1] + 1))
    extended[:, :-1] = rows
    return extended.T @ extended

"""The least-squares refit of one layer from its second moments, for any set of kept input columns.

With W the original weight, S the kept and P the pruned columns, the refit W_S + Δ minimises, over Δ and the bias,
    ‖X_P W_P - X_S Δ‖² + λ‖Δ‖²,    hence    Δ = (M_SS + λI)⁻¹ M_SP W_P,
where M = XᵀX, centred on the mean of X if the layer has a bias (the free intercept absorbs the means). The ridge pulls
towards the old weights, so on its own rows a refit is never worse than no refit.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_solve, cholesky, solve_triangular
from scipy.linalg.lapack import dpotri

from amc_mobile.prune.moments import WIDEST_GRAM, Float, LayerGram, Rows

Columns = NDArray[np.int64]
_ROWS_AT_ONCE = 1024  # whose copy in float64 stays in the processor's cache
_LEAST_RIDGE = 1e-12  # keeps dead and duplicate columns solvable when no ridge is asked for


class Refit(Protocol):
    """One layer's problem. Weights are (K, out) here: the transpose of how networks store them."""

    def solve(self, kept: Columns) -> tuple[Float, Float]:
        """The refitted weight (len(kept), out) of the sorted kept columns, and what to add to the bias (out,)."""
        ...


def refit_problem(
    gram: LayerGram, weight: Float, *, intercept: bool, ridge: float, order: Columns | None = None
) -> Refit:
    """The cheapest solver for a layer with `weight` (K, out).

    Args:
        ridge: λ relative to the mean diagonal of M.
        order: all columns from most to least important, if mostly the first columns of this order will be kept: a
            single factorisation then serves every number of them.
    """
    if gram.columns > WIDEST_GRAM:
        return RowRefit(gram, weight, intercept=intercept, ridge=ridge)
    if order is None:
        return GramRefit(gram, weight, intercept=intercept, ridge=ridge)
    return NestedRefit(gram, weight, intercept=intercept, ridge=ridge, order=order)


class GramRefit:
    """Factorises the kept block of the moment matrix, anew for each set of columns."""

    def __init__(self, gram: LayerGram, weight: Float, *, intercept: bool, ridge: float) -> None:
        self._weight = weight
        self._mean, self._moments = gram.centred() if intercept else (np.zeros(len(weight)), gram.gram()[:-1, :-1])
        self._ridge = absolute_ridge(ridge, np.diagonal(self._moments))

    def solve(self, kept: Columns) -> tuple[Float, Float]:
        """See Refit."""
        pruned = complement(kept, len(self._weight))
        factor = factorise(self._moments[np.ix_(kept, kept)], self._ridge)
        target = self._moments[np.ix_(kept, pruned)] @ self._weight[pruned]
        change = cho_solve((factor, True), target, check_finite=False)
        shift = self._mean[pruned] @ self._weight[pruned] - self._mean[kept] @ change
        return self._weight[kept] + change, shift


class NestedRefit(GramRefit):
    """Factorises M once, in the order of importance, and solves every head of that order by one triangular solve.

    With M + λI = LLᵀ the kept block's factor is the leading block L_SS, and the right-hand side of the kept rows is
    ((M + λI) W)_S = L_SS (Lᵀ W)_S, so that W_S + Δ = L_SS⁻ᵀ (Lᵀ W)_S. Other sets are solved as by GramRefit.
    """

    def __init__(self, gram: LayerGram, weight: Float, *, intercept: bool, ridge: float, order: Columns) -> None:
        super().__init__(gram, weight, intercept=intercept, ridge=ridge)
        self._order = order
        self._factor = factorise(self._moments[np.ix_(order, order)], self._ridge)
        self._target = self._factor.T @ weight[order]

    def solve(self, kept: Columns) -> tuple[Float, Float]:
        """See Refit."""
        count = len(kept)
        head = self._order[:count]
        place = np.argsort(head)
        if not np.array_equal(head[place], kept):
            return super().solve(kept)
        block = self._factor[:count, :count]
        refit = solve_triangular(block, self._target[:count], trans="T", lower=True, check_finite=False)[place]
        return refit, self._mean @ self._weight - self._mean[kept] @ refit


class MaskedRefit(GramRefit):
    """Every output keeps columns of its own: w_S = (M + λI)_SS⁻¹ ((M + λI) w)_S, one factorisation for each."""

    def solve_each(self, stays: NDArray[np.bool_]) -> tuple[Float, Float]:
        """The refitted weight (K, out), zero where `stays` (K, out) is False, and what to add to the bias (out,)."""
        target = self._moments @ self._weight + self._ridge * self._weight
        refit = solved_each(self._moments, target, stays, self._ridge)
        return refit, self._mean @ self._weight - self._mean @ refit


class RowRefit:
    """For layers with more columns than a Gram matrix can have: solves the dual problem, as large as the rows are many.

    Δ = X_Sᵀ (X_S X_Sᵀ + λI)⁻¹ X_P W_P. The weights stay float32: such a layer has 10⁸ of them.
    """

    def __init__(self, gram: LayerGram, weight: Float, *, intercept: bool, ridge: float) -> None:
        rows = gram.kept_samples()
        self._weight = weight.astype(np.float32, copy=False)
        self._mean = gram.means() if intercept else np.zeros(len(weight))
        self._rows = rows - self._mean
        self._ridge = absolute_ridge(ridge, np.square(self._rows).sum(axis=0))

    def solve(self, kept: Columns) -> tuple[Float, Float]:
        """See Refit."""
        pruned = complement(kept, len(self._weight))
        rows = self._rows[:, kept]
        factor = factorise(rows @ rows.T, self._ridge)
        target = self._rows[:, pruned].astype(np.float32) @ self._weight[pruned]
        change = rows.T @ cho_solve((factor, True), target.astype(np.float64), check_finite=False)
        shift = self._mean[pruned].astype(np.float32) @ self._weight[pruned] - self._mean[kept] @ change
        change += self._weight[kept]
        return change, shift


def cross_moments(rows: Rows, wanted: Rows) -> tuple[Float, Float]:
    """[X 1]^T [X 1] and [X 1]^T Y of rows X (n, K) and targets Y (n, out), added in float64."""
    columns = rows.shape[1] + 1
    own, cross = np.zeros((columns, columns)), np.zeros((columns, wanted.shape[1]))
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = rows[start : start + _ROWS_AT_ONCE]
        x = np.ones((len(part), columns))
        x[:, :-1] = part
        own += x.T @ x
        cross += x.T @ wanted[start : start + _ROWS_AT_ONCE].astype(np.float64)
    return own, cross


def solved_each(moments: Float, target: Float, stays: NDArray[np.bool_], ridge: float) -> Float:
    """(moments + ridge I)_SS^-1 target_S for every output with its own kept columns S: (K, out), zero elsewhere."""
    found = np.zeros_like(target)
    for output in range(target.shape[1]):
        kept = np.flatnonzero(stays[:, output])
        if len(kept):
            factor = factorise(moments[np.ix_(kept, kept)], ridge)
            found[kept, output] = cho_solve((factor, True), target[kept, output], check_finite=False)
    return found


def fitted(
    pair: tuple[Float, Float],
    weight: Float,
    ridge: float,
    *,
    intercept: bool,
    stays: NDArray[np.bool_] | None = None,
) -> tuple[Float, Float]:
    """The W (K, out) and bias (out,) that minimise |Y - X W - bias|^2 + ridge |W - weight|^2, from `cross_moments`.

    The ridge is relative to the mean diagonal of X^T X; without an intercept the bias is zero. Where `stays` (K, out)
    is False, `weight` is zero and so is W.
    """
    own, cross = pair
    count = own[-1, -1]
    gram, target = own[:-1, :-1], cross[:-1]
    mean_x, mean_y = own[-1, :-1] / count, cross[-1] / count
    if intercept:
        gram, target = gram - count * np.outer(mean_x, mean_x), target - count * np.outer(mean_x, mean_y)
    pull, missing = absolute_ridge(ridge, np.diagonal(gram)), target - gram @ weight
    if stays is None:
        found = weight + cho_solve((factorise(gram, pull), True), missing, check_finite=False)
    else:
        found = weight + solved_each(gram, missing, stays, pull)
    return found, mean_y - mean_x @ found if intercept else np.zeros(weight.shape[1])


def absolute_ridge(relative: float, diagonal: Float) -> float:
    """λ for a moment matrix with this diagonal: positive even where every column is dead."""
    return max(relative, _LEAST_RIDGE) * (float(diagonal.mean()) or 1.0)


def factorise(moments: Float, ridge: float) -> Float:
    """L with LLᵀ = moments + ridge I, lower. The ridge grows tenfold as often as rounding makes that necessary."""
    while True:
        shifted = moments.copy()
        shifted.flat[:: len(shifted) + 1] += ridge
        try:
            return cholesky(shifted, lower=True, overwrite_a=True, check_finite=False)
        except LinAlgError:
            ridge *= 10


def inverted(factor: Float) -> Float:
    """The inverse of the matrix whose Cholesky factor L (lower) this is."""
    triangle: Float = dpotri(factor, lower=1)[0]
    return np.tril(triangle) + np.tril(triangle, -1).T


def complement(kept: Columns, columns: int) -> Columns:
    """The columns that are not kept."""
    stays = np.zeros(columns, bool)
    stays[kept] = True
    return np.flatnonzero(~stays)

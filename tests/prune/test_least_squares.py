"""The refit of one layer on plain arrays: rows as a convolution sees them, solutions as numpy's lstsq finds them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amc_mobile.prune import moments
from amc_mobile.prune.least_squares import GramRefit, NestedRefit, RowRefit, complement
from amc_mobile.prune.moments import Accumulator, LayerGram
from amc_mobile.prune.patches import Window, conv_rows, linear_rows


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"),
    [((1, 1), (1, 1), (0, 0), (1, 1)), ((3, 3), (2, 2), (1, 1), (1, 1)), ((5, 3), (1, 2), (2, 0), (2, 1))],
)
def test_rows_times_weight_is_the_convolution(kernel, stride, padding, dilation):
    random = np.random.default_rng(0)
    images = random.standard_normal((2, 4, 13, 11)).astype(np.float32)
    conv = torch.nn.Conv2d(4, 6, kernel, stride, padding, dilation)
    expected = conv(torch.from_numpy(images)).detach().numpy()
    height, width = expected.shape[2:]
    positions = np.stack([random.permutation(height * width)[:7] for _ in range(2)])
    rows = conv_rows(images, Window(kernel, stride, padding, dilation), width, positions)
    answers = rows @ conv.weight.detach().numpy().reshape(6, -1).T + conv.bias.detach().numpy()
    sampled = np.take_along_axis(expected.reshape(2, 6, -1), positions[:, None], axis=2)
    np.testing.assert_allclose(answers.reshape(2, 7, 6), sampled.transpose(0, 2, 1), rtol=1e-5, atol=1e-5)


def test_linear_rows_sample_tokens():
    tokens = np.arange(2 * 5 * 3, dtype=np.float32).reshape(2, 5, 3)
    rows = linear_rows(tokens, np.array([[4, 0], [1, 1]]))
    np.testing.assert_array_equal(rows, [tokens[0, 4], tokens[0, 0], tokens[1, 1], tokens[1, 1]])


def problem(rows: int, columns: int, out: int, seed: int = 0):
    """Correlated, off-centre inputs (rows, columns) and a weight (columns, out)."""
    random = np.random.default_rng(seed)
    mixed = random.standard_normal((rows, columns)) @ random.standard_normal((columns, columns)) + 2.0
    return np.maximum(mixed, 0).astype(np.float32), random.standard_normal((columns, out)).astype(np.float32)


def gram_of(rows: np.ndarray) -> LayerGram:
    return LayerGram(len(rows), moments.gram_of(rows), None)


def lstsq_residual(x: np.ndarray, target: np.ndarray) -> float:
    solution = np.linalg.lstsq(x, target, rcond=None)[0]
    return float(np.linalg.norm(x @ solution - target))


def solvers(x: np.ndarray, weight: np.ndarray, kept: np.ndarray, *, intercept: bool, ridge: float = 0.0):
    order = np.concatenate([np.random.default_rng(1).permutation(kept), complement(kept, len(weight))])
    yield GramRefit(gram_of(x), weight, intercept=intercept, ridge=ridge)
    yield NestedRefit(gram_of(x), weight, intercept=intercept, ridge=ridge, order=order)
    yield RowRefit(LayerGram(len(x), None, x), weight, intercept=intercept, ridge=ridge)


@pytest.mark.parametrize("intercept", [True, False])
def test_equals_lstsq(intercept):
    x, weight = problem(300, 24, 5)
    bias = np.linspace(-1, 1, 5)
    target = x.astype(np.float64) @ weight + bias
    kept = np.array([0, 2, 3, 7, 8, 9, 10, 15, 16, 21, 23])
    ones = np.ones((300, 1)) if intercept else np.zeros((300, 1))
    best = lstsq_residual(np.hstack([x[:, kept], ones]), target - (0 if intercept else bias))
    for solver in itertools.islice(solvers(x, weight, kept, intercept=intercept), 2):
        refit, change = solver.solve(kept)
        residual = np.linalg.norm(x[:, kept] @ refit + bias + change - target)
        assert residual == pytest.approx(best, rel=1e-6)
        assert intercept or not change.any()


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("rows", [12, 300])
def test_all_solvers_agree(intercept, rows):
    x, weight = problem(rows, 20, 4)
    kept = np.array([1, 2, 5, 8, 9, 13, 14, 19])
    answers = [solver.solve(kept) for solver in solvers(x, weight, kept, intercept=intercept, ridge=1e-3)]
    for refit, change in answers[1:]:
        np.testing.assert_allclose(refit, answers[0][0], rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(change, answers[0][1], rtol=1e-3, atol=1e-3)


def test_nested_solves_sets_out_of_order_too():
    x, weight = problem(200, 12, 3)
    nested = NestedRefit(gram_of(x), weight, intercept=True, ridge=1e-6, order=np.arange(12)[::-1])
    direct = GramRefit(gram_of(x), weight, intercept=True, ridge=1e-6)
    kept = np.array([0, 1, 4, 11])
    np.testing.assert_array_equal(nested.solve(kept)[0], direct.solve(kept)[0])


@settings(max_examples=40)
@given(
    rows=st.integers(1, 60),
    columns=st.integers(2, 12),
    kept_count=st.integers(1, 11),
    ridge=st.sampled_from([0.0, 1e-7, 1e-2, 1.0]),
    dead=st.integers(0, 3),
    intercept=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_never_worse_than_no_refit_and_never_nan(rows, columns, kept_count, ridge, dead, intercept, seed):
    x, weight = problem(rows, columns, 3, seed)
    x[:, :dead] = 0.0
    x[:, -1] = x[:, 0]
    kept = np.sort(np.random.default_rng(seed).permutation(columns)[: min(kept_count, columns)])
    target = x.astype(np.float64) @ weight
    before = np.linalg.norm(x[:, kept] @ weight[kept] - target)
    for solver in solvers(x, weight, kept, intercept=intercept, ridge=ridge):
        refit, change = solver.solve(kept)
        assert np.isfinite(refit).all() and np.isfinite(change).all()
        after = np.linalg.norm(x[:, kept] @ refit + change - target)
        assert after <= before + 1e-4 * (np.linalg.norm(target) + 1)


def test_nothing_pruned_changes_nothing():
    x, weight = problem(100, 10, 3)
    for solver in solvers(x, weight, np.arange(10), intercept=True, ridge=1e-4):
        refit, change = solver.solve(np.arange(10))
        np.testing.assert_allclose(refit, weight, rtol=1e-6)
        np.testing.assert_allclose(change, 0, atol=1e-5)


def test_accumulator_keeps_whichever_is_smaller():
    x, _ = problem(3000, 8, 1)
    added = Accumulator(8, 3000)
    for start in range(0, 3000, 7):
        added.add(x[start : start + 7])
    gram = added.finish()
    assert gram.samples is None and gram.rows == 3000 and gram.columns == 8
    np.testing.assert_allclose(gram.gram(), moments.gram_of(x), rtol=1e-12)
    few = Accumulator(8, 3)
    few.add(x[:3])
    kept = few.finish()
    assert kept.matrix is None and kept.columns == 8
    np.testing.assert_array_equal(kept.kept_samples(), x[:3])
    np.testing.assert_allclose(kept.mean_squares(), np.diagonal(moments.gram_of(x[:3]))[:-1] / 3, rtol=1e-6)


def test_very_wide_layers_keep_rows(monkeypatch):
    monkeypatch.setattr(moments, "WIDEST_GRAM", 4)
    added = Accumulator(5, 10_000)
    added.add(np.ones((10, 5), np.float32))
    assert added.finish().matrix is None

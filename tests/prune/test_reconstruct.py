"""The repaired network: every layer's residual is the least possible, and no policy leads to a NaN."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amc_mobile.errors import DataError
from amc_mobile.prune import least_squares, moments, reconstruct
from amc_mobile.prune.gram import Grams
from amc_mobile.prune.importance import keep, rank
from amc_mobile.prune.layout import problems, to_matrix
from amc_mobile.prune.pruner import Pruner
from amc_mobile.prune.reconstruct import Memo, Reconstructor
from tests.graph.builders import random_channels, run
from tests.prune.networks import branches, chain, grams_of, images, residual, share


def residuals(traced, grams, channels, weights):
    """Squared error of every refitted layer's kept outputs on the calibration rows: (refitted, as it was, best)."""
    for problem in problems(traced):
        if problem.weight not in weights:
            continue
        columns, outputs = problem.columns(traced, channels), problem.outputs(traced, channels)
        gram = grams.layers[problem.name].gram()
        original = np.vstack([problem.matrix(traced), traced.weight(problem.biases[0])])[:, outputs]
        rows = [*columns, len(gram) - 1]
        best = np.linalg.lstsq(gram[np.ix_(rows, rows)], gram[rows] @ original, rcond=None)[0]
        refit = np.vstack([to_matrix(weights[problem.weight], problem.axis), weights[problem.biases[0]]])
        errors = []
        for candidate in (refit, original[rows], best):
            difference = original.copy()
            difference[rows] -= candidate
            errors.append(float(np.einsum("ko,kj,jo->", difference, gram, difference)))
        yield errors


@pytest.mark.parametrize("build", [chain, residual, branches])
@pytest.mark.parametrize("ranked", [True, False])
def test_layers_are_refitted_as_well_as_can_be(build, ranked):
    traced = build()
    grams, ranking = grams_of(traced, 200), rank(build(), "l1")
    channels = keep(share(traced, 0.6), ranking)
    weights = Reconstructor(traced, grams, 0.0, ranking if ranked else None).weights(channels)
    errors = list(residuals(traced, grams, channels, weights))
    assert errors
    for refitted, as_it_was, best in errors:
        assert refitted == pytest.approx(best, rel=1e-3)
        assert refitted <= as_it_was


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), ridge=st.sampled_from([0.0, 1e-3]))
def test_never_worse_and_never_nan_for_any_channels(seed, ridge):
    for traced, grams in NETWORKS:
        channels = random_channels(traced, np.random.default_rng(seed))
        weights = Reconstructor(traced, grams, ridge).weights(channels)
        assert all(np.isfinite(array).all() for array in weights.values())
        for refitted, as_it_was, _ in residuals(traced, grams, channels, weights):
            assert refitted <= as_it_was * (1 + 1e-6) + 1e-3


NETWORKS = [(traced, grams_of(traced, 10, 4)) for traced in (chain(), residual(), branches())]


def test_the_repaired_network_answers_more_like_the_original():
    traced = chain()
    ranking = rank(traced, "l1")
    plain = Pruner(traced, ranking)
    repaired = Pruner(traced, ranking, Reconstructor(traced, grams_of(traced, 200), 1e-4, ranking))
    policy, fresh = share(traced, 0.7), images(traced, 30, seed=7)

    def distance(model) -> float:
        return sum(float(np.square(run(model, x[None]) - run(traced.model, x[None])).sum()) for x in fresh)

    assert distance(repaired.prune(policy)) < 0.75 * distance(plain.prune(policy))
    full = repaired.prune(traced.network.full())
    np.testing.assert_array_equal(run(full, fresh[:1]), run(traced.model, fresh[:1]))


def test_only_layers_that_lost_inputs_are_touched():
    traced = residual()
    group = next(group for group in traced.network.groups if group.producers == ("a1",))
    channels = tuple(np.arange(5 if other is group else other.channels) for other in traced.network.groups)
    weights = Reconstructor(traced, grams_of(traced), 1e-4).weights(channels)
    assert set(weights) == {"a2.weight", "a2.bias"}
    assert weights["a2.weight"].shape == (8, 5, 3, 3) and weights["a2.weight"].dtype == np.float32


def test_very_wide_layers_are_refitted_from_their_rows(monkeypatch):
    traced = chain()
    ranking = rank(traced, "l1")
    channels = keep(share(traced, 0.5), ranking)
    expected = Reconstructor(traced, grams_of(traced), 1e-2, ranking).weights(channels)
    monkeypatch.setattr(moments, "WIDEST_GRAM", 20)
    monkeypatch.setattr(least_squares, "WIDEST_GRAM", 20)
    weights = Reconstructor(traced, grams_of(traced), 1e-2, ranking).weights(channels)
    assert weights.keys() == expected.keys()
    for name, array in weights.items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-3, atol=1e-4)


def test_the_same_policy_gives_the_same_bits_whatever_came_before():
    traced = chain()
    ranking, grams = rank(traced, "l1"), grams_of(chain())
    pruner = Pruner(traced, ranking, Reconstructor(traced, grams, 1e-4, ranking))
    first = pruner.prune(share(traced, 0.5)).SerializeToString()
    pruner.prune(share(traced, 0.8))
    assert pruner.prune(share(traced, 0.5)).SerializeToString() == first
    again = Pruner(traced, ranking, Reconstructor(traced, grams, 1e-4, ranking))
    assert again.prune(share(traced, 0.5)).SerializeToString() == first


def test_answers_are_remembered(monkeypatch):
    traced = residual()
    ranking = rank(traced, "l1")
    reconstructor = Reconstructor(traced, grams_of(traced), 1e-4, ranking)
    channels = keep(share(traced, 0.5), ranking)
    weights = reconstructor.weights(channels)
    monkeypatch.setattr(reconstruct, "refit_problem", None)
    monkeypatch.setattr(least_squares.NestedRefit, "solve", None)
    again = reconstructor.weights(channels)
    assert all(np.array_equal(array, again[name]) for name, array in weights.items())


def test_memo_forgets_the_oldest():
    memo = Memo(limit_bytes=100)
    answers = {name: (np.full(10, number, np.float32), np.zeros(0, np.float32)) for number, name in enumerate("abc")}
    memo.put(("a", b""), answers["a"])
    memo.put(("b", b""), answers["b"])
    memo.get(("a", b""))
    memo.put(("c", b""), answers["c"])
    assert memo.get(("b", b"")) is None
    assert memo.get(("a", b"")) is answers["a"] and memo.get(("c", b"")) is answers["c"]


def test_grams_of_another_network_are_refused():
    with pytest.raises(DataError, match="another network"):
        Reconstructor(chain(), Grams({}, 0), 1e-4)
    with pytest.raises(DataError, match="another network"):
        Reconstructor(chain(), grams_of(residual()), 1e-4)

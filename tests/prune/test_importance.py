"""Rankings: a whole order for every group, and the channels that obviously do not matter at its end."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from amc_mobile.errors import ConfigError
from amc_mobile.graph.trace import trace
from amc_mobile.prune import elimination
from amc_mobile.prune.importance import keep, rank
from amc_mobile.types import Policy
from tests.prune.networks import branches, chain, grams_of, residual, share

METHODS = ["l1", "activation", "reconstruction"]


def edited(traced, name: str, change):
    """The same network with one weight changed."""
    model = onnx.ModelProto()
    model.CopyFrom(traced.model)
    for tensor in model.graph.initializer:
        if tensor.name == name:
            array = numpy_helper.to_array(tensor).copy()
            change(array)
            tensor.CopyFrom(numpy_helper.from_array(array, name))
    return trace(model, traced.network.name)


def group_of(traced, producer: str):
    return next(group for group in traced.network.groups if producer in group.producers)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("build", [chain, residual, branches])
def test_every_order_is_whole(build, method):
    traced = build()
    ranking = rank(traced, method, grams_of(traced))
    for group, order in zip(traced.network.groups, ranking, strict=True):
        assert sorted(order.tolist()) == list(range(group.channels))
        assert group.prunable or order.tolist() == list(range(group.channels))


@pytest.mark.parametrize("method", METHODS)
def test_a_channel_that_nobody_hears_is_last(method):
    def silence(weight):
        weight[:, 5] = 0.0

    traced = edited(chain(), "wide.weight", silence)
    assert rank(traced, method, grams_of(traced))[group_of(traced, "point").index][-1] == 5


@pytest.mark.parametrize("method", ["activation", "reconstruction"])
def test_a_channel_that_says_nothing_is_last(method):
    def silence(array):
        array[3] = 0.0

    traced = edited(edited(chain(), "stem.weight", silence), "stem.bias", silence)
    assert rank(traced, method, grams_of(traced))[group_of(traced, "stem").index][-1] == 3


def test_of_two_equal_channels_reconstruction_drops_one_first():
    def repeat(array):
        array[2] = array[7]

    traced = edited(edited(chain(), "stem.weight", repeat), "stem.bias", repeat)
    group = group_of(traced, "stem").index
    assert rank(traced, "reconstruction", grams_of(traced))[group][-1] in (2, 7)


def test_l1_is_the_norm_of_the_consumers():
    traced = chain()
    order = rank(traced, "l1")[group_of(traced, "stem").index]
    norms = np.abs(traced.weight("down.weight")).sum(axis=(0, 2, 3))
    assert order.tolist() == np.argsort(-norms).tolist()


def test_flattened_maps_add_up_over_their_positions():
    traced = chain()
    order = rank(traced, "l1")[group_of(traced, "wide").index]
    norms = np.abs(traced.weight("hidden.weight")).reshape(14, 6, 4).sum(axis=(0, 2))
    assert order.tolist() == np.argsort(-norms).tolist()


def test_wide_layers_are_ranked_without_a_gram_matrix(monkeypatch):
    traced = chain()
    grams = grams_of(traced)
    monkeypatch.setattr(elimination, "WIDEST_GRAM", 20)
    ranking = rank(traced, "reconstruction", grams)
    assert [sorted(order.tolist()) for order in ranking] == [list(range(g.channels)) for g in traced.network.groups]


def test_elimination_counts_what_the_rest_takes_over():
    """Losses by brute force: the residual of the best refit without each channel, from all rows."""
    random = np.random.default_rng(0)
    x = random.standard_normal((400, 6)) @ random.standard_normal((6, 6))
    weight = random.standard_normal((6, 3))
    consumer = elimination.RefittedConsumer(np.linalg.inv(x.T @ x), weight, 2, 400)
    for left in ([0, 1, 2], [0, 2]):
        expected = []
        for channel in left:
            rest = [2 * other + tap for other in left if other != channel for tap in (0, 1)]
            fitted = x[:, rest] @ np.linalg.lstsq(x[:, rest], x @ weight, rcond=None)[0]
            now = [2 * other + tap for other in left for tap in (0, 1)]
            before = x[:, now] @ np.linalg.lstsq(x[:, now], x @ weight, rcond=None)[0]
            expected.append((np.square(fitted - x @ weight).sum() - np.square(before - x @ weight).sum()) / 400)
        np.testing.assert_allclose(consumer.losses(), expected, rtol=1e-6)
        consumer.remove(np.array([1]))


def test_keep_takes_the_first_of_every_order():
    ranking = (np.array([2, 0, 3, 1]), np.array([1, 0]))
    kept = keep(Policy((3, 1)), ranking)
    assert [list(channels) for channels in kept] == [[0, 2, 3], [1]]


def test_smaller_policies_keep_subsets():
    traced = residual()
    ranking = rank(traced, "l1")
    small, large = keep(share(traced, 0.3), ranking), keep(share(traced, 0.7), ranking)
    assert all(set(one.tolist()) <= set(other.tolist()) for one, other in zip(small, large, strict=True))


def test_needs_images_or_a_known_name():
    with pytest.raises(ConfigError, match="needs calibration images"):
        rank(chain(), "activation")
    with pytest.raises(ConfigError, match="l1, activation, reconstruction"):
        rank(chain(), "l2")

"""The last repair: every layer imitates the original from what really arrives, as well as least squares can."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from amc_mobile.export.to_onnx import export, parity
from amc_mobile.graph.trace import trace
from amc_mobile.models.digits_net import DigitsNet
from amc_mobile.prune import segments as cutting
from amc_mobile.prune.importance import keep, rank
from amc_mobile.prune.least_squares import cross_moments, fitted
from amc_mobile.prune.module import assign, slice_module
from amc_mobile.prune.reconstruct import Reconstructor
from amc_mobile.prune.refresh import STIFFER, Refresher, refresh
from amc_mobile.prune.segments import Runner, Take, segments
from tests.graph.builders import Builder, run
from tests.prune.networks import branches, chain, grams_of, images, residual, share


def grouped():
    b = Builder(channels=3, size=6)
    x = b.op("Relu", b.conv("input", "stem", 3, 8))
    x = b.op("Relu", b.conv(x, "grouped", 8, 8, group=2))
    return trace(b.build(b.conv(x, "head", 8, 3, 1)), "grouped")


def tokens():
    """A class token makes it run one image at a time; biases stand in nodes of their own; one sum with a shortcut."""
    b = Builder(channels=3, size=4)
    x = b.op("Transpose", b.op("Reshape", b.conv("input", "patch", 3, 6), b.ints(1, 6, 16)), perm=[0, 2, 1])
    x = b.op("Concat", b.constant("token", np.ones((1, 1, 6), np.float32)), x, axis=1)
    for name in ("a", "b"):
        up = product(b, b.op("Tanh", x), f"{name}.up", 6, 10)
        x = b.op("Add", x, product(b, b.op("Relu", up), f"{name}.down", 10, 6))
    return trace(b.build(b.op("ReduceMean", x, b.ints(1), keepdims=0)), "tokens")


def product(b: Builder, data: str, name: str, before: int, after: int) -> str:
    weight = b.constant(f"{name}.weight", b.random.standard_normal((before, after)).astype(np.float32))
    bias = b.constant(f"{name}.bias", b.random.standard_normal(after).astype(np.float32))
    return b.op("Add", b.op("MatMul", data, weight), bias)


def two_heads():
    """The answer that counts is made first: a later output must not be taken for the end."""
    b = Builder(channels=3, size=6)
    x = b.op("Relu", b.conv("input", "stem", 3, 8))
    features = b.op("Flatten", b.op("GlobalAveragePool", b.op("Relu", b.conv(x, "body", 8, 8))))
    logits = b.linear(features, "head", 8, 4)
    other = b.linear(b.op("Relu", b.linear(features, "hidden", 8, 6)), "embedding", 6, 3)
    model = b.build(logits)
    model.graph.output.append(onnx.helper.make_tensor_value_info(other, onnx.TensorProto.FLOAT, None))
    return trace(model, "two heads")


NETWORKS = [chain, residual, branches, grouped, tokens, two_heads]


def repaired(traced, ratio: float = 0.5):
    ranking = rank(traced, "l1")
    channels = keep(share(traced, ratio), ranking)
    return channels, Reconstructor(traced, grams_of(traced, 200), 1e-4, ranking).weights(channels)


def refreshed(traced, channels, weights, data, **changes):
    settings = {"points_per_image": 50, "ridge": 1e-4, "seed": 0, "threads": 1} | changes
    return refresh(traced, channels, weights, data, **settings)


def distance(traced, model, data) -> float:
    return sum(float(np.square(run(model, x[None]) - run(traced.model, x[None])).sum()) for x in data)


@pytest.mark.parametrize("build", NETWORKS)
def test_the_refreshed_network_answers_more_like_the_original(build):
    traced = build()
    channels, weights = repaired(traced)
    better = refreshed(traced, channels, weights, images(traced, 150))
    fresh = images(traced, 40, seed=9)
    before, after = (distance(traced, traced.slice(channels, own), fresh) for own in (weights, better))
    assert after < 0.99 * before


@pytest.mark.parametrize("build", NETWORKS)
def test_nothing_pruned_changes_nothing(build):
    traced = build()
    channels = keep(traced.network.full(), rank(traced, "l1"))
    weights = refreshed(traced, channels, None, images(traced, 20))
    for name, array in weights.items():
        np.testing.assert_allclose(array, traced.weight(name), rtol=1e-2, atol=1e-3)


def test_the_last_layer_is_the_least_squares_solution_of_what_arrives():
    traced = residual()
    channels, weights = repaired(traced)
    data = images(traced, 30)
    better = refreshed(traced, channels, weights, data, points_per_image=10_000, ridge=0.0)
    model = traced.slice(channels, better)
    model.graph.output.append(onnx.helper.make_tensor_value_info(model.graph.node[-1].input[0], 1, None))
    data = data[:23]  # those that are fitted to
    arrived = torch.from_numpy(np.concatenate([outputs(model, x[None])[1] for x in data])).double()
    wanted = torch.from_numpy(np.concatenate([run(traced.model, x[None]) for x in data])).double()
    rows = torch.nn.functional.unfold(arrived, 3, padding=1).transpose(1, 2).flatten(0, 1)
    rows = torch.cat([rows, torch.ones(len(rows), 1).double()], dim=1)
    target = wanted.flatten(2).transpose(1, 2).flatten(0, 1)
    best = torch.linalg.lstsq(rows, target).solution
    own = torch.cat([torch.from_numpy(better["head.weight"]).flatten(1).T, torch.from_numpy(better["head.bias"])[None]])
    least = float((rows @ best - target).norm())
    assert float((rows @ own.double() - target).norm()) == pytest.approx(least, rel=1e-6)


def test_the_branch_makes_up_for_what_the_stream_lost():
    """The stem keeps half of its channels' readers, the stream arrives changed; the branch must mend it."""
    b = Builder(channels=3, size=8)
    x = b.conv(b.op("Relu", b.conv("input", "first", 3, 12)), "stream", 12, 6)
    branch = b.conv(b.op("Relu", b.conv(x, "inner", 6, 24)), "outer", 24, 6)
    total = b.op("Add", x, branch)
    traced = trace(b.build(b.conv(b.op("Relu", total), "head", 6, 4)), "one block")
    group = next(group for group in traced.network.groups if group.producers == ("first",))
    channels = tuple(np.arange(3 if other is group else other.channels) for other in traced.network.groups)
    data = images(traced, 100)
    weights = Reconstructor(traced, grams_of(traced, 200), 1e-4).weights(channels)
    better = refreshed(traced, channels, weights, data)
    sums = [
        inner(traced.model, total, data),
        *(inner(traced.slice(channels, w), total, data) for w in (weights, better)),
    ]
    assert np.square(sums[2] - sums[0]).sum() < 0.8 * np.square(sums[1] - sums[0]).sum()


def outputs(model, data) -> list[np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"input": data})


def inner(model, name, data) -> np.ndarray:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.append(onnx.helper.make_tensor_value_info(name, 1, None))
    return np.concatenate([outputs(copy, x[None])[1] for x in data])


def test_the_same_seed_gives_the_same_weights():
    traced = chain()
    channels, weights = repaired(traced)
    data = images(traced, 20)
    first, again, other = (refreshed(traced, channels, weights, data, points_per_image=3, seed=s) for s in (1, 1, 2))
    assert all(np.array_equal(array, again[name]) for name, array in first.items())
    assert any(not np.array_equal(array, other[name]) for name, array in first.items())


def test_without_repair_it_starts_from_the_sliced_weights():
    traced = residual()
    channels, _ = repaired(traced)
    fresh, better = images(traced, 30, seed=9), refreshed(traced, channels, None, images(traced, 100))
    plain = distance(traced, traced.slice(channels), fresh)
    assert distance(traced, traced.slice(channels, better), fresh) < 0.5 * plain


def test_the_module_takes_the_refreshed_weights_too():
    torch.manual_seed(0)
    module = DigitsNet().eval()
    traced = trace(export(module, (1, 32, 32)), "digits")
    channels, weights = repaired(traced)
    better = refreshed(traced, channels, weights, images(traced, 40))
    small = slice_module(module, traced, channels)
    assign(small, better, traced)
    assert parity(small, traced.slice(channels, better), images(traced, 3)) < 1e-4


def test_a_shared_weight_stays():
    b = Builder(channels=4, size=6)
    x = b.op("Relu", b.conv("input", "first", 4, 8))
    x = b.op("Relu", b.conv(x, "twice", 8, 8))
    x = b.op("Conv", x, *b.nodes[-2].input[1:], pads=[1] * 4)
    traced = trace(b.build(b.conv(x, "head", 8, 3, 1)), "shared")
    channels, weights = repaired(traced)
    better = refreshed(traced, channels, weights, images(traced, 20))
    np.testing.assert_array_equal(better["twice.weight"], weights["twice.weight"])
    assert not np.array_equal(better["head.weight"], weights["head.weight"])


@pytest.mark.parametrize("build", NETWORKS)
def test_segments_run_like_the_whole(build, monkeypatch):
    traced, data = build(), images(build(), 11)
    parts = segments(traced.model, len(data))
    assert [part.first for part in parts[1:]] == [part.last for part in parts[:-1]]
    runner, tensor = Runner(traced.model, 1), data
    for part in parts:
        (tensor,) = runner.run(part, tensor, len(data), [Take(part.exit)])
    expected = np.concatenate([run(traced.model, x[None]) for x in data])
    np.testing.assert_allclose(tensor, expected, rtol=1e-4, atol=1e-4)
    assert len(parts) > 1
    monkeypatch.setattr(cutting, "_LARGEST_BYTES", 0)
    assert len(segments(traced.model, len(data))) == 1


def test_a_fit_without_intercept_is_pulled_to_the_old_weight():
    random = np.random.default_rng(0)
    rows, old = random.standard_normal((50, 4)).astype(np.float32), random.standard_normal((4, 2))
    wanted = (rows @ random.standard_normal((4, 2))).astype(np.float32)
    exact, bias = fitted(cross_moments(rows, wanted), old, 0.0, intercept=False)
    np.testing.assert_allclose(rows @ exact, wanted, atol=1e-5)
    assert not bias.any()
    np.testing.assert_allclose(fitted(cross_moments(rows, wanted), old, 1e9, intercept=False)[0], old, atol=1e-6)


def test_what_makes_the_answers_worse_is_not_taken():
    """The images that are fitted to are noise of another kind: nothing learnt from them helps the others."""
    traced = chain()
    channels, weights = repaired(traced)
    data = images(traced, 40)
    data[:30] = 50.0 + 0.01 * data[:30]
    better = refreshed(traced, channels, weights, data, ridge=0.0)
    held_out = data[30:]
    before, after = (divergence(traced, traced.slice(channels, own), held_out) for own in (weights, better))
    assert after <= before


def divergence(traced, model, data) -> float:
    total = 0.0
    for image in data:
        right, own = (
            torch.log_softmax(torch.from_numpy(run(network, image[None])).double(), dim=1)
            for network in (traced.model, model)
        )
        total += float((right.exp() * (right - own)).sum())
    return total


def test_the_task_says_what_is_near():
    """Of two walks the nearer one is taken: by a distance that likes nothing new, the careful one keeps all."""
    traced = chain()
    channels, weights = repaired(traced)
    seen = []

    def conservative(right, own):
        seen.append((right.shape, own.shape))
        return float(len(seen))  # every later network is further away

    kept = refreshed(traced, channels, weights, images(traced, 40), distance=conservative)
    assert all(np.array_equal(kept[name], array) for name, array in weights.items())
    assert set(seen) == {(seen[0][0], seen[0][0])}
    assert seen[0][0][0] == 10  # the images that were held out


def test_three_images_are_too_few():
    traced = chain()
    channels, weights = repaired(traced)
    better = refreshed(traced, channels, weights, images(traced, 3))
    assert all(np.array_equal(array, better[name]) for name, array in weights.items())


def test_numbers_of_initialisers_stay():
    traced = chain()
    channels, weights = repaired(traced)
    model = traced.slice(channels, refreshed(traced, channels, weights, images(traced, 20)))
    assert all(numpy_helper.to_array(item).dtype != np.float64 for item in model.graph.initializer)


@pytest.mark.parametrize("build", [residual, branches, grouped, tokens])
def test_one_policy_after_the_other_is_refreshed_in_a_single_walk(build):
    """What one policy was given does not depend on those before it; without nearer answers it is given nothing."""
    traced = build()
    data, fresh = images(traced, 300), images(traced, 40, seed=9)
    one, two = repaired(traced), repaired(traced, 0.6)
    quick = {"points_per_image": 50, "ridge": 1e-4, "seed": 0, "threads": 1}
    refresher = Refresher(traced, data, **quick)
    first, other, again = (refresher.weights(*each) for each in (one, two, one))
    assert first is not None and again is not None and other is not None
    assert all(np.array_equal(array, again[name]) for name, array in first.items())
    alone = Refresher(traced, data, **quick).weights(*two)
    assert alone is not None and all(np.array_equal(array, alone[name]) for name, array in other.items())
    before, after = (distance(traced, traced.slice(one[0], own), fresh) for own in (one[1], first))
    assert after < before


def test_a_walk_that_helps_nothing_gives_nothing():
    traced = chain()
    channels, weights = repaired(traced)
    few = Refresher(traced, images(traced, 6), points_per_image=1, ridge=1e-12, seed=0, threads=1)
    assert few.weights(channels, weights) is None and not few.tune(channels, weights)
    with pytest.raises(ValueError, match="3 images are too few"):
        Refresher(traced, images(traced, 3), points_per_image=5, ridge=1e-3, seed=0)


def test_the_ridge_is_chosen_by_what_a_policy_gains():
    traced = residual()
    channels, weights = repaired(traced)
    few = {"points_per_image": 2, "seed": 0, "threads": 1}
    data = images(traced, 24)
    refresher = Refresher(traced, data, ridge=1e-9, **few)
    refresher.tune(channels, weights)
    chosen = refresher._walk(channels, weights, refresher._ridge).error
    assert chosen == min(refresher._walk(channels, weights, ridge).error for ridge in STIFFER)

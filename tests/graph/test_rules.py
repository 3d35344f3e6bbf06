"""Every rule on a graph of its own: which groups are found, and masked = sliced for random choices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amc_mobile.errors import GraphError
from amc_mobile.graph.trace import load, trace
from tests.graph.builders import Builder, images_for, random_channels, relative_error, run


def chain(b: Builder) -> str:
    return b.conv(b.op("LeakyRelu", b.conv("input", "a", 3, 8)), "b", 8, 4)


def residual(b: Builder) -> str:
    stem = b.conv("input", "stem", 3, 8)
    body = b.conv(b.op("Elu", b.conv(stem, "one", 8, 12)), "two", 12, 8)
    return b.conv(b.op("Add", stem, body), "head", 8, 4)


def depthwise(b: Builder) -> str:
    wide = b.op("Clip", b.conv("input", "expand", 3, 12, 1), b.constant("low", np.float32(0)))
    return b.conv(b.conv(wide, "dw", 12, 12, group=12, stride=2), "project", 12, 5, 1)


def depthwise_multiplier(b: Builder) -> str:
    return b.conv(b.conv(b.conv("input", "a", 3, 6), "dw", 6, 12, group=6), "b", 12, 4)


def option_a_shortcut(b: Builder) -> str:
    stem = b.conv("input", "stem", 3, 4)
    half = b.op("Slice", stem, b.ints(0, 0), b.ints(99, 99), b.ints(2, 3), b.ints(2, 2))
    skip = b.op("Pad", half, b.ints(0, 2, 0, 0, 0, 2, 0, 0))
    return b.conv(b.op("Add", b.conv(stem, "body", 4, 8, stride=2), skip), "head", 8, 3)


def concatenated(b: Builder) -> str:
    one, two = b.conv("input", "one", 3, 6), b.conv("input", "two", 3, 4, 1)
    return b.conv(b.op("Concat", one, two, axis=1), "head", 10, 3)


def batch_norm_after_concat(b: Builder) -> str:
    both = b.op("Concat", b.conv("input", "one", 3, 6), b.conv("input", "two", 3, 4, 1), axis=1)
    for name in ("scale", "shift", "mean", "var"):
        b.constant(f"bn.{name}", b.random.uniform(0.5, 1.5, 10).astype(np.float32))
    return b.conv(b.op("BatchNormalization", both, "bn.scale", "bn.shift", "bn.mean", "bn.var"), "head", 10, 3)


def squeeze_excite(b: Builder) -> str:
    data = b.conv("input", "a", 3, 8)
    gate = b.op("ReduceMean", data, b.ints(2, 3), keepdims=1)
    gate = b.op("Sigmoid", b.conv(b.op("Tanh", b.conv(gate, "down", 8, 4, 1)), "up", 4, 8, 1))
    return b.conv(b.op("Mul", data, gate), "head", 8, 3)


def flattened(b: Builder) -> str:
    pooled = b.op("MaxPool", b.conv("input", "a", 3, 6), kernel_shape=[2, 2], strides=[2, 2])
    flat = b.op("Reshape", pooled, b.ints(1, 96))
    return b.linear(b.op("Tanh", b.linear(flat, "fc1", 96, 10)), "fc2", 10, 4)


def split_halves(b: Builder) -> str:
    left, right = b.op("Split", b.conv("input", "a", 3, 8), b.ints(3, 5), axis=1, outputs=2)
    return b.op("Add", b.conv(left, "left", 3, 4), b.conv(right, "right", 5, 4))


def sliced_channels(b: Builder) -> str:
    piece = b.op("Slice", b.conv("input", "a", 3, 8), b.ints(2), b.ints(7), b.ints(1))
    return b.conv(piece, "head", 5, 3)


def gathered(b: Builder) -> str:
    return b.conv(b.op("Gather", b.conv("input", "a", 3, 6), b.ints(4, 0, 2, -1), axis=1), "head", 4, 3)


def linear_on_tokens(b: Builder) -> str:
    tokens = b.op("Transpose", b.op("Reshape", b.conv("input", "a", 3, 6), b.ints(1, 6, 64)), perm=[0, 2, 1])
    b.constant("fc.weight", b.random.standard_normal((6, 5)).astype(np.float32))
    b.constant("out.weight", b.random.standard_normal((5, 4)).astype(np.float32))
    hidden = b.op("Add", b.op("MatMul", tokens, "fc.weight"), b.constant("fc.bias", np.ones(5, np.float32)))
    return b.op("MatMul", b.op("Erf", hidden), "out.weight")


def shared_weight(b: Builder) -> str:
    data = b.conv("input", "a", 3, 6)
    for _ in range(2):
        data = b.op("Softplus", b.conv(data, "same", 6, 6))
    return b.conv(data, "head", 6, 3)


def channel_shuffle(b: Builder) -> str:
    return b.conv(shuffled(b, b.conv("input", "a", 3, 8), 8, 2), "head", 8, 3)


def shuffled(b: Builder, data: str, channels: int, parts: int, size: int = 8) -> str:
    """ShuffleNet's interleaving of `parts` equal parts of the channels."""
    wide = b.op("Reshape", data, b.ints(1, parts, channels // parts, size, size))
    return b.op("Reshape", b.op("Transpose", wide, perm=[0, 2, 1, 3, 4]), b.ints(1, channels, size, size))


def grouped(b: Builder) -> str:
    return b.conv(b.op("Tanh", b.conv(b.conv("input", "a", 3, 8), "g", 8, 12, group=2)), "head", 12, 3)


def grouped_and_shuffled(b: Builder) -> str:
    """ShuffleNet-V1's unit: grouped 1x1, shuffle, depthwise, grouped 1x1, and the shortcut around them."""
    stem = b.conv("input", "stem", 3, 18, 1)
    wide = shuffled(b, b.op("Tanh", b.conv(stem, "one", 18, 36, 1, group=3)), 36, 3)
    branch = b.conv(b.conv(wide, "dw", 36, 36, group=36), "two", 36, 18, 1, group=3)
    return b.conv(b.op("Add", stem, branch), "head", 18, 4, 1)


def uneven_shuffle(b: Builder) -> str:
    """After this shuffle, the next layer's conv-groups share no column: nothing can leave between the two."""
    wide = shuffled(b, b.conv(b.conv("input", "a", 3, 12, 1), "one", 12, 15, 1, group=3), 15, 3)
    return b.conv(b.conv(wide, "two", 15, 6, 1, group=3), "head", 6, 4, 1)


def chunked_after_shuffle(b: Builder) -> str:
    """ShuffleNet-V2's unit twice: half of the channels pass by, both halves are interleaved, and halved again."""
    data = b.conv("input", "a", 3, 16, 1)
    for name in ("one", "two"):
        left, right = b.op("Split", data, b.ints(8, 8), axis=1, outputs=2)
        both = b.op("Concat", left, b.op("Tanh", b.conv(right, name, 8, 8)), axis=1)
        data = shuffled(b, both, 16, 2)
    return b.conv(data, "head", 16, 3)


def pixel_shuffle(b: Builder) -> str:
    wide = b.op("Reshape", b.conv("input", "a", 3, 24), b.ints(1, 6, 2, 2, 8, 8))
    large = b.op("Reshape", b.op("Transpose", wide, perm=[0, 1, 4, 2, 5, 3]), b.ints(1, 6, 16, 16))
    return b.conv(large, "head", 6, 3)


def attention_heads(b: Builder) -> str:
    """Queries, keys and values of two heads of three channels from one layer: a head leaves as a whole."""
    tokens = b.op("Transpose", b.op("Reshape", b.conv("input", "a", 3, 5), b.ints(1, 5, 64)), perm=[0, 2, 1])
    parts = [b.op("MatMul", tokens, b.constant("qkv.weight", b.random.standard_normal((5, 36)).astype(np.float32)))]
    parts = b.op("Split", parts[0], b.ints(12, 12, 12), axis=2, outputs=3)
    heads = [b.op("Transpose", b.op("Reshape", part, b.ints(1, 64, 4, 3)), perm=[0, 2, 1, 3]) for part in parts]
    scores = b.op("MatMul", heads[0], b.op("Transpose", heads[1], perm=[0, 1, 3, 2]))
    mixed = b.op("MatMul", b.op("Softmax", scores), heads[2])
    rows = b.op("Reshape", b.op("Transpose", mixed, perm=[0, 2, 1, 3]), b.ints(1, 64, 12))
    b.constant("proj.weight", b.random.standard_normal((12, 4)).astype(np.float32))
    return b.op("MatMul", rows, "proj.weight")


def resized_by_axes(b: Builder) -> str:
    """Opset 18: sizes are given for some axes only, here without and with that of the channels."""
    data = b.conv("input", "a", 3, 8)
    for axes, sizes in (([2, 3], (5, 7)), ([3, 1], (6, 8))):
        data = b.op("Resize", data, "", "", b.ints(*sizes), axes=axes, mode="nearest")
    return b.conv(data, "head", 8, 3)


PRUNABLE = {  # graph -> (channels, producers) of the groups that can be pruned
    chain: {(8, ("a",))},
    residual: {(8, ("stem", "two")), (12, ("one",))},
    depthwise: {(12, ("expand",))},
    depthwise_multiplier: {(6, ("a",))},
    option_a_shortcut: {(4, ("stem", "body")), (4, ("body",))},
    concatenated: {(6, ("one",)), (4, ("two",))},
    batch_norm_after_concat: {(6, ("one",)), (4, ("two",))},
    squeeze_excite: {(8, ("a", "up")), (4, ("down",))},
    flattened: {(6, ("a",)), (10, ("fc1",))},
    split_halves: {(3, ("a",)), (5, ("a",))},
    sliced_channels: {(5, ("a",))},
    gathered: {(4, ("a",))},
    linear_on_tokens: {(6, ("a",)), (5, ("fc",))},
    shared_weight: {(6, ("a", "same"))},
    channel_shuffle: {(4, ("a",))},
    grouped: {(4, ("a",)), (6, ("g",))},
    grouped_and_shuffled: {(6, ("stem", "two")), (4, ("one",))},
    uneven_shuffle: {(4, ("a",)), (2, ("two",))},
    chunked_after_shuffle: {(4, ("a", "one", "two"))},
    pixel_shuffle: {(6, ("a",))},
    attention_heads: {(5, ("a",)), (4, ("qkv",))},
    resized_by_axes: {(8, ("a",))},
}


@pytest.mark.parametrize("network", PRUNABLE, ids=lambda network: network.__name__)
def test_the_groups_are_found(network) -> None:
    b = Builder()
    graph = trace(b.build(network(b)), network.__name__).network
    assert {(group.channels, group.producers) for group in graph.prunable()} == PRUNABLE[network]


@pytest.mark.parametrize("network", PRUNABLE, ids=lambda network: network.__name__)
@settings(max_examples=12)
@given(seed=st.integers(0, 2**32 - 1))
def test_masked_equals_sliced_and_differs_from_the_original(network, seed: int) -> None:
    b = Builder()
    traced = trace(b.build(network(b)), network.__name__)
    random = np.random.default_rng(seed)
    channels, images = random_channels(traced, random), images_for(traced, random)
    masked, sliced = run(traced.mask(channels), images), run(traced.slice(channels), images)
    assert relative_error(sliced, masked) < 1e-5
    if any(len(kept) < group.channels for kept, group in zip(channels, traced.network.groups, strict=True)):
        assert relative_error(sliced, run(traced.model, images)) > 1e-5


def attention(b: Builder) -> str:
    data = b.op("Reshape", b.conv("input", "a", 3, 6), b.ints(1, 6, 64))
    return b.op("MatMul", data, b.op("Transpose", data, perm=[0, 2, 1]))


def unknown_operator(b: Builder) -> str:
    return b.conv(b.op("LRN", b.conv("input", "a", 3, 8), size=3), "head", 8, 3)


def added_inside_of_a_gemm(b: Builder) -> str:
    """torch.addmm: the third input is an activation."""
    features = b.op("Flatten", b.op("GlobalAveragePool", b.conv("input", "a", 3, 6)))
    hidden = b.op("Tanh", b.linear(features, "up", 6, 8))
    total = b.op("Gemm", hidden, b.constant("down.weight", np.ones((8, 6), np.float32)), features)
    return b.linear(b.op("Tanh", total), "head", 6, 4)


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (added_inside_of_a_gemm, "added inside of a Gemm"),
        (uneven_shuffle, "its 15 channels can only leave together"),
        (attention, "product of two activations"),
        (unknown_operator, "LRN lrn1: not understood"),
        (chain, "the network's output"),
    ],
)
def test_what_is_not_understood_is_pinned_with_the_reason(network, reason: str) -> None:
    b = Builder()
    traced = trace(b.build(network(b)), network.__name__)
    reasons = [group.reason for group in traced.network.groups if not group.prunable]
    assert any(reason in given for given in reasons), reasons
    whole = tuple(np.arange(group.channels) for group in traced.network.groups)
    images = images_for(traced, np.random.default_rng(0))
    assert relative_error(run(traced.slice(whole), images), run(traced.model, images)) == 0.0


def test_skipped_layers_keep_their_width() -> None:
    b = Builder()
    model = b.build(residual(b))
    graph = trace(model, "net", skip=["one"]).network
    assert not graph.prunable()
    assert {group.reason for group in graph.groups} >= {"skipped by hand"}
    with pytest.raises(GraphError, match="no layer is called nothing"):
        trace(model, "net", skip=["nothing"])


def test_a_policy_that_cuts_what_is_pinned_is_refused() -> None:
    b = Builder()
    traced = trace(b.build(chain(b)), "net")
    whole = [np.arange(group.channels) for group in traced.network.groups]
    pinned = next(group for group in traced.network.groups if not group.prunable)
    whole[pinned.index] = np.arange(1)
    with pytest.raises(GraphError, match="cannot be pruned: the network's"):
        traced.slice(tuple(whole))


def test_foreign_files_are_refused_in_one_line() -> None:
    with pytest.raises(GraphError, match="cannot be read as ONNX"):
        load(b"not a model", "x.onnx")
    b = Builder()
    model = b.build(chain(b))
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    with pytest.raises(GraphError, match="free dimension at axis 2"):
        trace(model, "net")

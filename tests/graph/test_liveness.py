"""The peak of activation memory by formula, against a simulation that runs the sliced graph and counts its buffers."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest

from amc_mobile.cost.formulas import memory_bytes
from amc_mobile.graph.trace import trace
from amc_mobile.graph.traced import TracedGraph

from .builders import Builder

VIEWS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity")
OVERWRITES = ("Relu", "Sigmoid", "Clip", "Add", "Mul", "HardSwish", "HardSigmoid", "Div", "Sub", "Erf", "Sqrt", "Gelu")


def simulate(model: onnx.ModelProto) -> int:
    """Bytes of the activations at the peak: buffers are made, overwritten and freed node by node."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {
        item.name: tuple(dim.dim_value for dim in item.type.tensor_type.shape.dim)
        for item in [*inferred.input, *inferred.value_info, *inferred.output]
    }
    weights = {item.name for item in inferred.initializer}
    readers = Counter(name for node in inferred.node for name in node.input)
    readers.update({item.name: 1 for item in inferred.output})  # whoever called the network
    (source,) = (item.name for item in inferred.input if item.name not in weights)
    memory = {0: int(np.prod(shapes[source])) * 4}  # by buffer
    where, users, peak = {source: 0}, Counter({0: readers[source]}), 0
    for number, node in enumerate(inferred.node, start=1):
        home = None
        if node.op_type in VIEWS:
            home = where[node.input[0]]
        elif node.op_type in OVERWRITES:
            mine = Counter(where[name] for name in node.input if name in where)
            for name in node.input:
                own = where.get(name, 0)
                if own and users[own] == mine[own] and shapes[name] == shapes[node.output[0]]:
                    home = own
                    break
        for place, output in enumerate(node.output):
            where[output] = home if home is not None and place == 0 else 1000 * number + place
            memory.setdefault(where[output], int(np.prod(shapes[output])) * 4)
            users[where[output]] += readers[output]
        peak = max(peak, sum(memory.values()))
        for name in node.input:
            if name in where:
                users[where[name]] -= 1
        memory = {buffer: size for buffer, size in memory.items() if users[buffer] > 0}
    return peak


def inverted_residual() -> onnx.ModelProto:
    b = Builder()
    stem = b.op("Relu", b.conv("input", "stem", 3, 8, stride=2))
    for block in ("one", "two"):
        wide = b.op("Relu", b.conv(stem, f"{block}.expand", 8, 24, 1))
        wide = b.op("Relu", b.conv(wide, f"{block}.dw", 24, 24, group=24))
        stem = b.op("Add", stem, b.conv(wide, f"{block}.project", 24, 8, 1))
    return b.build(b.linear(b.op("Flatten", stem), "fc", 8 * 16, 10))


def squeeze_excite() -> onnx.ModelProto:
    b = Builder(size=12)
    data = b.conv("input", "stem", 3, 16)
    squeezed = b.op("GlobalAveragePool", data)
    gate = b.op("Sigmoid", b.conv(b.op("Relu", b.conv(squeezed, "down", 16, 6, 1)), "up", 6, 16, 1))
    head = b.conv(b.op("Mul", data, gate), "head", 16, 12, 1, stride=2)
    return b.build(b.linear(b.op("Flatten", b.op("GlobalAveragePool", head)), "fc", 12, 10))


def dense() -> onnx.ModelProto:
    b = Builder(size=10)
    data = b.conv("input", "stem", 3, 8)
    for number in range(3):
        grown = b.conv(b.op("Relu", data), f"grow{number}", 8 + 6 * number, 6)
        data = b.op("Concat", data, grown, axis=1)
    return b.build(b.linear(b.op("Flatten", b.op("GlobalAveragePool", data)), "fc", 26, 10))


def padded_shortcut() -> onnx.ModelProto:
    b = Builder()
    data = b.op("Relu", b.conv("input", "stem", 3, 8))
    wide = b.conv(data, "wide", 8, 16, stride=2)
    pooled = b.op("AveragePool", data, kernel_shape=[1, 1], strides=[2, 2])
    shortcut = b.op("Pad", pooled, b.ints(0, 4, 0, 0, 0, 4, 0, 0))
    joined = b.op("Relu", b.op("Add", wide, shortcut))
    return b.build(b.linear(b.op("Flatten", b.op("GlobalAveragePool", joined)), "fc", 16, 10))


def two_branches() -> onnx.ModelProto:
    b = Builder()
    data = b.op("Relu", b.conv("input", "stem", 3, 12))
    first, second = b.op("Split", data, b.ints(6, 6), outputs=2, axis=1)
    joined = b.op("Concat", b.op("Relu", b.conv(first, "left", 6, 10)), b.conv(second, "right", 6, 14, 1), axis=1)
    return b.build(b.linear(b.op("Flatten", b.op("GlobalMaxPool", joined)), "fc", 24, 10))


def random_policy(traced: TracedGraph, random: np.random.Generator) -> tuple[int, ...]:
    return tuple(
        int(random.integers(2, group.channels + 1)) if group.prunable else group.channels
        for group in traced.network.groups
    )


def check(traced: TracedGraph, policies: int, seed: int = 0) -> None:
    random = np.random.default_rng(seed)
    full = traced.network.full().kept
    assert memory_bytes(traced.network, full) == simulate(traced.model)
    for _ in range(policies):
        kept = random_policy(traced, random)
        sliced = traced.slice(tuple(np.arange(number) for number in kept))
        assert memory_bytes(traced.network, kept) == simulate(sliced)


@pytest.mark.parametrize("make", [inverted_residual, squeeze_excite, dense, padded_shortcut, two_branches])
def test_the_formula_is_the_peak_of_the_sliced_graph(make) -> None:
    traced = trace(make(), "small")
    assert traced.network.prunable()
    check(traced, policies=30)


def test_a_hand_counts_the_same() -> None:
    b = Builder(channels=3, size=4)
    wide = b.op("Relu", b.conv("input", "wide", 3, 8))  # the relu writes over the convolution's output
    network = trace(b.build(b.conv(wide, "narrow", 8, 5)), "small").network
    assert memory_bytes(network, network.full().kept) == 4 * 16 * (8 + 5)
    (group,) = network.prunable()
    kept = list(network.full().kept)
    kept[group.index] = 2
    assert memory_bytes(network, kept) == 4 * 16 * (2 + 5)


def test_no_moment_is_kept_that_can_never_be_the_peak() -> None:
    network = trace(inverted_residual(), "small").network
    random = np.random.default_rng(0)
    tops = set()
    for _ in range(3000):
        kept = [int(random.integers(1, group.channels + 1)) for group in network.groups]
        sizes = [m.fixed_bytes + sum(s.positions * kept[s.group] for s in m.spans) for m in network.moments]
        tops.add(int(np.argmax(sizes)))
    assert len(network.moments) < 8  # of 14 nodes
    assert len(tops) > 1  # which moment is the peak depends on the policy


def test_a_channel_more_never_needs_less() -> None:
    network = trace(dense(), "small").network
    assert all(moment.fixed_bytes >= 0 for moment in network.moments)
    assert all(span.positions > 0 for moment in network.moments for span in moment.spans)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["resnet20", "mobilenet_v2", "mobilenet_v3_small", "shufflenet_v2_x1_0", "googlenet", "swin_t"]
)
def test_real_networks(name: str) -> None:
    from amc_mobile.export.to_onnx import export
    from amc_mobile.models.zoo import find

    entry = find(name)
    module = entry.build().eval()
    check(trace(export(module, entry.input_shape), name), policies=3)

"""Costs by formula, checked against hand-counted layers, sliced files, and the monotony the budget needs."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amc_mobile.cost.formulas import layer_macs, macs, memory_bytes, params, size_bytes
from amc_mobile.cost.price import cost_function, price
from amc_mobile.errors import BudgetError
from amc_mobile.graph.trace import trace
from amc_mobile.graph.traced import first_channels
from amc_mobile.types import Policy
from tests.graph.builders import Builder


def small_network():
    b = Builder()
    stem = b.conv("input", "stem", 3, 8, stride=2)
    wide = b.conv(b.conv(stem, "expand", 8, 16, 1), "dw", 16, 16, group=16)
    joined = b.op("Add", stem, b.conv(wide, "project", 16, 8, 1))
    flat = b.op("Flatten", b.op("GlobalAveragePool", joined))
    return trace(b.build(b.linear(flat, "fc", 8, 10)), "small")


NETWORK = small_network().network


def test_layers_cost_what_a_hand_counts() -> None:
    costs = {layer.name: layer_macs(layer, NETWORK.full().kept) for layer in NETWORK.layers}
    assert costs == {
        "stem": 4 * 4 * 3 * 3 * 3 * 8,
        "expand": 4 * 4 * 8 * 16,
        "dw": 4 * 4 * 3 * 3 * 16,
        "project": 4 * 4 * 16 * 8,
        "fc": 8 * 10,
    }


def test_parameters_follow_the_widths() -> None:
    stream = next(group for group in NETWORK.groups if group.producers == ("stem", "project"))
    inner = next(group for group in NETWORK.groups if group.producers == ("expand",))
    kept = list(NETWORK.full().kept)
    kept[stream.index], kept[inner.index] = 5, 6
    expected = (5 * 27 + 5) + (6 * 5 + 6) + (6 * 9 + 6) + (5 * 6 + 5) + (10 * 5 + 10)
    assert params(NETWORK, kept) == expected


widths = st.tuples(*(st.integers(1, g.channels) if g.prunable else st.just(g.channels) for g in NETWORK.groups))


@given(widths, st.data())
def test_no_cost_falls_when_a_group_grows(kept: tuple[int, ...], data) -> None:
    group = data.draw(st.sampled_from(NETWORK.prunable()))
    more = list(kept)
    more[group.index] = data.draw(st.integers(kept[group.index], group.channels))
    for metric in ("macs", "params", "bytes", "memory_bytes"):
        cost = cost_function(NETWORK, metric)
        assert cost(more) >= cost(kept)


TRACED = small_network()


@settings(max_examples=50)
@given(widths)
def test_bytes_are_never_fewer_than_the_sliced_file_has(kept: tuple[int, ...]) -> None:
    file = TRACED.slice(tuple(np.arange(k) for k in kept)).SerializeToString()
    assert len(file) <= size_bytes(NETWORK, kept) <= len(file) + 8 * len(NETWORK.tensors)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_the_full_file_is_counted_to_the_byte(kind: type) -> None:
    b = Builder(channels=3, size=4)
    data = b.op("Cast", "input", to=int(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind))))
    wide = b.op("Relu", b.conv(data, "wide", 3, 600))
    out = b.conv(wide, "narrow", 600, 90)
    b.arrays = {name: array.astype(kind) for name, array in b.arrays.items()}
    traced = trace(b.build(b.op("Cast", out, to=1)), "typed")
    full = traced.network.full()
    assert size_bytes(traced.network, full.kept) == len(traced.slice(first_channels(full)).SerializeToString())
    (group,) = traced.network.prunable()
    kept = [7 if index == group.index else width for index, width in enumerate(full.kept)]
    file = traced.slice(first_channels(Policy(tuple(kept)))).SerializeToString()
    assert len(file) <= size_bytes(traced.network, kept) <= len(file) + 32


def test_a_price_has_every_currency_and_latency_only_with_a_table() -> None:
    cost = price(NETWORK, Policy(NETWORK.full().kept))
    assert cost.macs == macs(NETWORK, NETWORK.full().kept)
    assert cost.latency_us is None
    with pytest.raises(BudgetError, match="amc profile"):
        cost_function(NETWORK, "latency_us")


@given(widths)
def test_the_quick_costs_are_the_formulas(kept: tuple[int, ...]) -> None:
    for metric, formula in (("macs", macs), ("params", params), ("bytes", size_bytes), ("memory_bytes", memory_bytes)):
        assert cost_function(NETWORK, metric)(kept) == formula(NETWORK, kept)


def shuffled():
    """Conv-groups, a channel shuffle, and a concatenation."""
    b = Builder(channels=4, size=6)
    data = b.conv(b.conv("input", "stem", 4, 12, 1), "grouped", 12, 24, group=3)
    parts = b.op("Transpose", b.op("Reshape", data, b.ints(1, 3, 8, 6, 6)), perm=[0, 2, 1, 3, 4])
    mixed = b.conv(b.op("Reshape", parts, b.ints(1, 24, 6, 6)), "mixed", 24, 18, group=3)
    joined = b.op("Concat", mixed, b.conv(data, "side", 24, 10, 1), axis=1)
    return trace(b.build(b.linear(b.op("Flatten", b.conv(joined, "last", 28, 6)), "fc", 216, 10)), "shuffled").network


def test_quick_costs_of_grouped_convolutions_and_flattened_maps() -> None:
    network, random = shuffled(), np.random.default_rng(0)
    assert any(layer.groups == 3 for layer in network.layers)
    assert any(span.positions == 36 for tensor in network.tensors for axis in tensor.spans for span in axis)
    for _ in range(50):
        kept = [int(random.integers(1, g.channels + 1)) if g.prunable else g.channels for g in network.groups]
        assert cost_function(network, "macs")(kept) == macs(network, kept)
        assert cost_function(network, "params")(kept) == params(network, kept)
        assert cost_function(network, "bytes")(kept) == size_bytes(network, kept)
        assert cost_function(network, "memory_bytes")(kept) == memory_bytes(network, kept)

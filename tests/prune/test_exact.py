"""Every kind of layer: what the repair leaves is what torch.linalg.lstsq leaves, in float64, on rows made by torch."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import helper
from torch.nn.functional import unfold

from amc_mobile.graph.trace import trace
from amc_mobile.graph.traced import Channels, TracedGraph
from amc_mobile.prune.gram import collect
from amc_mobile.prune.reconstruct import Reconstructor
from amc_mobile.types import Layer
from tests.graph.builders import Builder
from tests.prune.networks import images

EVERYTHING = 10_000  # points per image: all positions of every map


def convolution(**options) -> TracedGraph:
    """A convolution named "target" that reads the outputs of another one."""
    b = Builder(channels=3, size=9, seed=1)
    data = b.op("Relu", b.conv("input", "before", 3, options.pop("width", 16)))
    target(b, data, **options)
    return finish(b, b.nodes[-1].output[0], 12)


def target(b: Builder, data: str, kernel=(3, 3), group=1, pads=(1, 1, 1, 1), bias=True, name="target", **attributes):
    shape = (12, 16 // group, *kernel)
    weight = b.constant("target.weight", b.random.standard_normal(shape).astype(np.float32))
    vector = [b.constant(f"{name}.bias", b.random.standard_normal(12).astype(np.float32))] if bias else []
    return b.op("Conv", data, weight, *vector, kernel_shape=kernel, pads=list(pads), group=group, **attributes)


def finish(b: Builder, data: str, width: int) -> TracedGraph:
    return trace(b.build(b.conv(b.op("Relu", data), "head", width, 3, 1)), "one layer")


def dead_and_twice() -> TracedGraph:
    """Channels that are always zero, and channels that say the same."""
    b = Builder(channels=3, size=9, seed=2)
    data = b.op("Relu", b.conv("input", "before", 3, 16))
    for name in ("before.weight", "before.bias"):
        b.arrays[name][2:4] = 0.0
        b.arrays[name][5:9] = b.arrays[name][9:13]
    return finish(b, target(b, data), 12)


def shared() -> TracedGraph:
    """Two convolutions with one weight that see different images."""
    b = Builder(channels=3, size=9, seed=3)
    one = b.op("Relu", b.conv("input", "before", 3, 16))
    other = b.op("Relu", b.conv(b.op("Mul", one, b.constant("half", np.float32([0.5]))), "between", 16, 16))
    one, other = target(b, one), target(b, b.op("Add", one, other), name="again")
    return finish(b, b.op("Add", one, other), 12)


def linear(tokens: bool, bias: bool, width: int = 14) -> TracedGraph:
    """A product with a constant on (N, tokens, K), or a Gemm on (N, K)."""
    b = Builder(channels=3, size=4, seed=4)
    data = b.op("Relu", b.conv("input", "before", 3, width))
    weight = b.random.standard_normal((width, 6)).astype(np.float32)
    vector = b.constant("target.bias", b.random.standard_normal(6).astype(np.float32))
    if tokens:
        rows = b.op("Transpose", b.op("Reshape", data, b.ints(1, width, 16)), perm=[0, 2, 1])
        data = b.op("MatMul", rows, b.constant("target.weight", weight))
        data = b.op("Add", vector, data) if bias else data
        data = b.op("Reshape", b.op("Transpose", data, perm=[0, 2, 1]), b.ints(1, 6, 4, 4))
        return finish(b, data, 6)
    flat = b.op("Flatten", b.op("GlobalAveragePool", data))
    data = b.op("Gemm", flat, b.constant("target.weight", weight), *([vector] if bias else []))
    return trace(b.build(b.linear(b.op("Relu", data), "head", 6, 3)), "one layer")


def flattened() -> TracedGraph:
    b = Builder(channels=3, size=4, seed=5)
    data = b.op("Flatten", b.op("Relu", b.conv("input", "before", 3, 5, stride=2)))
    return trace(b.build(b.linear(b.op("Relu", b.linear(data, "target", 20, 7)), "head", 7, 3)), "one layer")


def joined() -> TracedGraph:
    """A convolution that reads two groups."""
    b = Builder(channels=3, size=9, seed=6)
    one, two = b.op("Relu", b.conv("input", "one", 3, 7)), b.op("Relu", b.conv("input", "two", 3, 9, 1))
    return finish(b, target(b, b.op("Concat", one, two, axis=1)), 12)


KINDS = {
    "1x1": lambda: convolution(kernel=(1, 1), pads=(0, 0, 0, 0)),
    "3x3": convolution,
    "5x3": lambda: convolution(kernel=(5, 3), pads=(2, 1, 2, 1)),
    "no bias": lambda: convolution(bias=False),
    "stride": lambda: convolution(strides=[2, 1]),
    "dilation": lambda: convolution(dilations=[2, 1]),
    "uneven padding": lambda: convolution(pads=(0, 1, 2, 0), strides=[2, 2]),
    "grouped": lambda: convolution(group=4),
    "grouped, no bias": lambda: convolution(group=2, bias=False, strides=[2, 2]),
    "grouped 1x1": lambda: convolution(group=2, kernel=(1, 1), pads=(0, 0, 0, 0)),
    "dead and duplicate channels": dead_and_twice,
    "shared weight": shared,
    "two groups": joined,
    "linear": lambda: linear(tokens=False, bias=True),
    "linear, no bias": lambda: linear(tokens=False, bias=False),
    "flattened maps": flattened,
    "tokens": lambda: linear(tokens=True, bias=True),
    "tokens, no bias": lambda: linear(tokens=True, bias=False),
}


def activations(traced: TracedGraph, names: list[str], data: np.ndarray) -> list[torch.Tensor]:
    traced.model.graph.output.extend(helper.make_tensor_value_info(name, 1, None) for name in names)
    session = onnxruntime.InferenceSession(traced.model.SerializeToString(), providers=["CPUExecutionProvider"])
    del traced.model.graph.output[1:]
    found = [session.run(names, {"input": image[None]}) for image in data]
    return [torch.from_numpy(np.concatenate(parts)).double() for parts in zip(*found, strict=True)]


def rows_of(layer: Layer, data: torch.Tensor, attributes) -> torch.Tensor:
    """All rows of the layer, (rows, in_channels, taps)."""
    if layer.kind == "linear":
        return data.reshape(-1, layer.in_channels, 1)
    top, left, bottom, right = layer.padding
    padded = torch.nn.functional.pad(data, (left, right, top, bottom))
    columns = unfold(padded, layer.kernel, dilation=attributes.get("dilations", (1, 1)), stride=layer.stride)
    return columns.transpose(1, 2).reshape(-1, layer.in_channels, layer.kernel[0] * layer.kernel[1])


def problem(traced: TracedGraph, data: np.ndarray) -> tuple[list[Layer], torch.Tensor, torch.Tensor]:
    """The layers with target.weight, their rows (rows, in_channels, taps) and outputs before any bias (rows, out)."""
    layers = [layer for layer in traced.network.layers if layer.weight == "target.weight"]
    nodes = {node.output[0]: node for node in traced.model.graph.node}
    rows = []
    for layer, tensor in zip(layers, activations(traced, [layer.input for layer in layers], data), strict=True):
        found = {item.name: helper.get_attribute_value(item) for item in nodes[layer.output].attribute}
        rows.append(rows_of(layer, tensor, found))
    x = torch.cat(rows)
    axis = next(a for a, item in traced.axes["target.weight"].items() if item.reads)
    return layers, x, outputs(x, as_matrix(traced.weight("target.weight"), axis), layers[0].groups)


def as_matrix(weight, axis: int) -> torch.Tensor:
    """(in_channels / groups * taps, out)."""
    tensor = torch.tensor(np.asarray(weight), dtype=torch.float64)
    return tensor if axis == 0 else tensor.flatten(1).T


def outputs(x: torch.Tensor, matrix: torch.Tensor, groups: int) -> torch.Tensor:
    """The rows (rows, channels, taps) times a matrix (channels / groups * taps, out)."""
    each = matrix.shape[1] // groups
    blocks = [
        part.flatten(1) @ matrix[:, number * each : (number + 1) * each]
        for number, part in enumerate(blocks_of(x, groups))
    ]
    return torch.cat(blocks, dim=1)


def blocks_of(x: torch.Tensor, groups: int) -> tuple[torch.Tensor, ...]:
    return x.chunk(groups, dim=1)


def the_least(x: torch.Tensor, target: torch.Tensor, groups: int, intercept: bool) -> float:
    """The norm that lstsq leaves, conv-group by conv-group."""
    each, squares = target.shape[1] // groups, 0.0
    for number, part in enumerate(blocks_of(x, groups)):
        rows = part.flatten(1)
        rows = torch.cat([rows, torch.ones(len(rows), 1).double()], dim=1) if intercept else rows
        wanted = target[:, number * each : (number + 1) * each]
        solution = torch.linalg.lstsq(rows, wanted, driver="gelsd").solution
        squares += float((rows @ solution - wanted).square().sum())
    return squares**0.5


def fewer_channels(traced: TracedGraph, random: np.random.Generator) -> Channels:
    """Every prunable group loses at least one channel."""
    return tuple(
        np.sort(random.choice(group.channels, random.integers(1, group.channels), replace=False))
        if group.prunable
        else np.arange(group.channels)
        for group in traced.network.groups
    )


def check(traced: TracedGraph, count: int, seed: int) -> None:
    data = images(traced, count, seed=seed)
    channels = fewer_channels(traced, np.random.default_rng(seed))
    weights = Reconstructor(traced, collect(traced, data, EVERYTHING, seed=0, threads=1), 0.0).weights(channels)
    layers, x, target = problem(traced, data)
    groups, axis = layers[0].groups, next(a for a, item in traced.axes["target.weight"].items() if item.reads)
    stay, outs = (traced.positions("target.weight", number, channels) for number in (axis, 1 - axis))
    kept = x.reshape(len(x), groups, traced.weight("target.weight").shape[axis], -1)[:, :, stay].flatten(1, 2)
    matrix = as_matrix(weights["target.weight"], axis)
    shift = np.zeros(len(outs))
    if "target.bias" in traced.axes:
        shift = weights["target.bias"] - traced.weight("target.bias")[outs]
    left = float((outputs(kept, matrix, groups) + torch.from_numpy(shift) - target[:, outs]).norm())
    least = the_least(kept, target[:, outs], groups, intercept="target.bias" in traced.axes)
    assert left == pytest.approx(least, rel=1e-6, abs=1e-6 * float(target[:, outs].norm()))


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_left_is_the_least_possible(kind, seed):
    check(KINDS[kind](), 25, seed)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("kind", ["3x3", "no bias", "dead and duplicate channels", "linear", "tokens, no bias"])
def test_fewer_rows_than_columns(kind, seed):
    check(KINDS[kind](), 1, seed)

"""Small traced networks to be profiled."""

from __future__ import annotations

import functools

from amc_mobile.graph.trace import trace
from amc_mobile.graph.traced import TracedGraph
from tests.graph.builders import Builder


def _head(net: Builder, data: str, channels: int) -> str:
    return net.linear(net.op("Flatten", net.op("GlobalAveragePool", data)), "classifier", channels, 10)


@functools.cache
def residual_network(width: int = 64, size: int = 24) -> TracedGraph:
    """A stem, a depthwise-separable block, a residual block, a classifier: every kind of row."""
    net = Builder(channels=3, size=size)
    data = net.op("Relu", net.conv("input", "stem", 3, width, stride=2))
    data = net.op("Relu", net.conv(data, "block.depthwise", width, width, group=width))
    data = net.op("Relu", net.conv(data, "block.pointwise", width, 2 * width, kernel=1))
    branch = net.op("Relu", net.conv(data, "residual.first", 2 * width, width))
    branch = net.conv(branch, "residual.second", width, 2 * width)
    data = net.op("Relu", net.op("Add", data, branch))
    data = net.op("Relu", net.conv(data, "last", 2 * width, width, kernel=1))
    return trace(net.build(_head(net, data, width)), "residual")


@functools.cache
def projected_network() -> TracedGraph:
    """Two branches of convolutions that meet in a sum: the runtime may fuse the sum into either."""
    net = Builder(channels=3, size=16)
    data = net.op("Relu", net.conv("input", "stem", 3, 32))
    short = net.conv(data, "shortcut", 32, 64, kernel=1)
    branch = net.op("Relu", net.conv(data, "main.first", 32, 64))
    branch = net.conv(branch, "main.second", 64, 64)
    data = net.op("Relu", net.op("Add", branch, short))
    return trace(net.build(_head(net, data, 64)), "projected")


@functools.cache
def concatenated_network() -> TracedGraph:
    """Two branches side by side in front of a convolution: one axis with two groups."""
    net = Builder(channels=3, size=12)
    data = net.op("Relu", net.conv("input", "stem", 3, 32))
    left = net.op("Relu", net.conv(data, "left", 32, 24))
    right = net.op("Relu", net.conv(data, "right", 32, 40, kernel=1))
    data = net.op("Relu", net.conv(net.op("Concat", left, right, axis=1), "joint", 64, 32))
    return trace(net.build(_head(net, data, 32)), "concatenated")


@functools.cache
def pyramid_network() -> TracedGraph:
    """One convolution on maps of two sizes, as in the heads of a detector: a layer that runs twice."""
    net = Builder(channels=3, size=24)
    large = net.op("Relu", net.conv("input", "stem", 3, 64))
    small = net.op("MaxPool", large, kernel_shape=[2, 2], strides=[2, 2])
    first = net.op("Relu", net.conv(large, "shared", 64, 48))
    weights = next(node for node in net.nodes if "shared.weight" in node.input).input[1:]
    second = net.op("Relu", net.op("Conv", small, *weights, pads=[1] * 4))
    both = net.op("Add", net.op("GlobalAveragePool", first), net.op("GlobalAveragePool", second))
    return trace(net.build(net.linear(net.op("Flatten", both), "classifier", 48, 10)), "pyramid")

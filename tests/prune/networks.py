"""Small networks for the tests of pruning: graphs by hand with every kind of layer that can be refitted."""

from __future__ import annotations

import numpy as np

from amc_mobile.graph.trace import trace
from amc_mobile.graph.traced import TracedGraph
from amc_mobile.prune.gram import Grams, collect
from amc_mobile.types import Policy
from tests.graph.builders import Builder


def chain(seed: int = 0) -> TracedGraph:
    """3x3 with stride 2 -> depthwise -> 1x1 -> 3x3, flattened into a linear layer and a head."""
    b = Builder(channels=3, size=8, seed=seed)
    x = b.op("Relu", b.conv("input", "stem", 3, 12))
    x = b.op("Relu", b.conv(x, "down", 12, 16, stride=2))
    x = b.conv(b.conv(x, "dw", 16, 16, group=16), "point", 16, 10, 1)
    x = b.op("Relu", b.conv(b.op("Relu", x), "wide", 10, 6, stride=2))
    x = b.op("Relu", b.linear(b.op("Flatten", x), "hidden", 24, 14))
    return trace(b.build(b.linear(x, "head", 14, 5)), "chain")


def residual(seed: int = 0) -> TracedGraph:
    """A stream of 8 channels with two branches: groups with several makers and several readers."""
    b = Builder(channels=3, size=8, seed=seed)
    x = b.conv("input", "stem", 3, 8)
    for name in ("a", "b"):
        branch = b.conv(b.op("Relu", b.conv(x, f"{name}1", 8, 12)), f"{name}2", 12, 8)
        x = b.op("Add", x, branch)
    return trace(b.build(b.conv(b.op("Relu", x), "head", 8, 4)), "residual")


def branches(seed: int = 0) -> TracedGraph:
    """Two convolutions joined along their channels: layers that read two groups."""
    b = Builder(channels=3, size=8, seed=seed)
    one, two = b.op("Relu", b.conv("input", "one", 3, 7)), b.op("Relu", b.conv("input", "two", 3, 9, 1))
    joined = b.op("Concat", one, two, axis=1)
    return trace(b.build(b.conv(b.op("Relu", b.conv(joined, "mix", 16, 8)), "head", 8, 4)), "branches")


def images(traced: TracedGraph, count: int, seed: int = 1) -> np.ndarray:
    shape = traced.network.input_shape[1:]
    return np.random.default_rng(seed).standard_normal((count, *shape)).astype(np.float32)


def grams_of(traced: TracedGraph, count: int = 40, points: int = 12) -> Grams:
    return collect(traced, images(traced, count), points, seed=0, threads=1)


def share(traced: TracedGraph, ratio: float) -> Policy:
    """The same share of every prunable group."""
    groups = traced.network.groups
    return Policy(tuple(max(1, round(g.channels * ratio)) if g.prunable else g.channels for g in groups))

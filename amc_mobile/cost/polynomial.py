"""Costs by formula, made quick: each is a polynomial in the kept channels of the groups, or the largest of several.

A search asks for tens of thousands of prices. The formulas (formulas.py) say what a cost is, layer by layer; here the
terms of all layers are gathered once, by the groups that they depend on. All arithmetic is in integers, so that the
numbers are the same. Groups that are pinned count as they are.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import reduce

import numpy as np

from amc_mobile.types import AxisSpans, Layer, NetworkGraph, WeightTensor

Terms = Counter[tuple[int, ...]]  # coefficients, by the groups that are multiplied; () for what is fixed
QuickCost = Callable[[Sequence[int]], float]


class Polynomial:
    """Terms of degree 0, 1 and 2 as arrays, and whatever has a higher degree one by one."""

    def __init__(self, terms: Terms, groups: int) -> None:
        pairs = [key for key in terms if len(key) == 2]
        self._fixed = terms[()]
        self._linear = np.array([terms[(group,)] for group in range(groups)], np.int64)
        self._pairs = np.array(pairs, np.int64).reshape(-1, 2).T
        self._factors = np.array([terms[key] for key in pairs], np.int64)
        self._higher = [(key, factor) for key, factor in terms.items() if len(key) > 2]

    def __call__(self, kept: Sequence[int]) -> float:
        """The cost when group g keeps `kept[g]` channels."""
        widths = np.array(kept, np.int64)
        first, second = self._pairs
        total = self._fixed + int(self._linear @ widths) + int(self._factors @ (widths[first] * widths[second]))
        return float(total + sum(factor * math.prod(kept[group] for group in key) for key, factor in self._higher))


def macs(network: NetworkGraph) -> QuickCost | None:
    """formulas.macs; None where a convolution's parts are not equal for every width."""
    terms: Terms = Counter()
    for layer in network.layers:
        found = _layer_macs(layer, network)
        if any(factor % layer.groups for factor in found.values()):
            return None
        terms.update({key: factor // layer.groups for key, factor in found.items()})
    for product in network.products:
        terms.update(_sum_of(product.spans, network))
        terms[()] += product.fixed_macs
    return Polynomial(terms, len(network.groups))


def params(network: NetworkGraph) -> QuickCost:
    """formulas.params."""
    return Polynomial(
        _total(_elements(tensor, network) for tensor in network.tensors if not tensor.buffer), len(network.groups)
    )


def size_bytes(network: NetworkGraph) -> QuickCost:
    """formulas.size_bytes."""
    terms = _total(_scaled(_elements(tensor, network), tensor.element_bytes) for tensor in network.tensors)
    terms[()] += network.overhead_bytes
    return Polynomial(terms, len(network.groups))


def memory_bytes(network: NetworkGraph) -> QuickCost:
    """formulas.memory_bytes."""
    fixed = np.array([moment.fixed_bytes for moment in network.moments] or [0], np.int64)
    slopes = np.zeros((len(fixed), len(network.groups)), np.int64)
    for row, moment in enumerate(network.moments):
        for span in moment.spans:
            slopes[row, span.group] += span.positions
    return lambda kept: float((fixed + slopes @ np.array(kept, np.int64)).max())


def _layer_macs(layer: Layer, network: NetworkGraph) -> Terms:
    """MACs times the layer's own group count."""
    window = math.prod(layer.kernel) * math.prod(layer.out_hw)
    wide_out = _scaled(_sum_of(layer.out_spans, network), window)
    if layer.kind == "depthwise":
        return _scaled(wide_out, layer.groups)
    return _times(_sum_of(layer.in_spans, network), wide_out)


def _elements(tensor: WeightTensor, network: NetworkGraph) -> Terms:
    one: Terms = Counter({(): 1})
    axes = zip(tensor.spans, tensor.shape, strict=True)
    return reduce(_times, (_sum_of(spans, network) if spans else _scaled(one, length) for spans, length in axes), one)


def _sum_of(spans: AxisSpans, network: NetworkGraph) -> Terms:
    """The width of an axis."""
    terms: Terms = Counter()
    for span in spans:
        group = network.groups[span.group]
        terms[(group.index,) if group.prunable else ()] += span.positions * (1 if group.prunable else group.channels)
    return terms


def _times(one: Terms, other: Terms) -> Terms:
    terms: Terms = Counter()
    for first, a in one.items():
        for second, b in other.items():
            terms[tuple(sorted(first + second))] += a * b
    return terms


def _scaled(terms: Terms, factor: int) -> Terms:
    return Counter({key: value * factor for key, value in terms.items()})


def _total(parts: Iterable[Terms]) -> Terms:
    terms: Terms = Counter()
    for part in parts:
        terms.update(part)
    return terms

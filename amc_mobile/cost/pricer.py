"""A latency table bound to one network, so that a policy is priced in microseconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from amc_mobile.types import AxisSpans, Layer, NetworkGraph

_MEMO_LIMIT = 100_000  # entries for each set of groups: a bound on memory, far above what one search asks


class Row(Protocol):
    """What has a price for every pair of widths."""

    def at(self, in_channels: int, out_channels: int) -> float:
        """The price in µs."""
        ...


def width_function(layer: Layer, network: NetworkGraph) -> Callable[[Sequence[int]], tuple[int, int]]:
    """From the channels kept by each group to the layer's (input, output) channels. Ungrouped channels stay."""
    fixed_in = layer.in_channels - _grouped(layer.in_spans, network)
    fixed_out = layer.out_channels - _grouped(layer.out_spans, network)

    def widths(kept: Sequence[int]) -> tuple[int, int]:
        in_channels, out_channels = layer.widths(kept)
        return fixed_in + in_channels, fixed_out + out_channels

    return widths


class Pricer:
    """Sums rows that depend on the same groups once, and remembers the sum for the widths seen before."""

    def __init__(self, network: NetworkGraph, rows: Mapping[str, Sequence[Row]], rest_us: float) -> None:
        self.network = network
        self._rest_us = rest_us
        terms: dict[tuple[int, ...], _Term] = {}
        for layer in network.timed_layers():
            groups = tuple(dict.fromkeys(span.group for span in (*layer.in_spans, *layer.out_spans)))
            groups = tuple(group for group in groups if network.groups[group].prunable)
            term = terms.setdefault(tuple(sorted(groups)), _Term())
            term.parts.append((width_function(layer, network), rows[layer.name]))
        self._terms = [(groups, term, term.memo) for groups, term in terms.items()]

    def price(self, kept: Sequence[int]) -> float:
        """The network's time in µs."""
        total = self._rest_us
        for groups, term, memo in self._terms:
            key = tuple([kept[group] for group in groups])
            price = memo.get(key)
            total += term.compute(key, kept) if price is None else price
        return total


class _Term:
    """All rows whose prices depend on the same groups."""

    def __init__(self) -> None:
        self.parts: list[tuple[Callable[[Sequence[int]], tuple[int, int]], Sequence[Row]]] = []
        self.memo: dict[tuple[int, ...], float] = {}

    def compute(self, key: tuple[int, ...], kept: Sequence[int]) -> float:
        total = 0.0
        for widths, rows in self.parts:
            in_channels, out_channels = widths(kept)
            total += sum(row.at(in_channels, out_channels) for row in rows)
        if len(self.memo) >= _MEMO_LIMIT:
            self.memo.clear()
        self.memo[key] = total
        return total


def _grouped(spans: AxisSpans, network: NetworkGraph) -> int:
    return sum(span.positions * network.groups[span.group].channels for span in spans)

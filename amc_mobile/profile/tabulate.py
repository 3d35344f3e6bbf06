"""From fitted laws to the table's integer prices: only widths worth choosing, and never falling with a width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import product

import numpy as np

from amc_mobile.cost.pricer import width_function
from amc_mobile.cost.table import TableRow
from amc_mobile.cost.widths import width_grid
from amc_mobile.profile.fit import NetworkLaw
from amc_mobile.profile.law import Calibration, Floats, RowLaw
from amc_mobile.profile.mapping import RowKey
from amc_mobile.types import AxisSpans, ChannelGroup, Layer, NetworkGraph

_FREE = 2e-4  # channels that cost less than this share of the whole network are kept: nobody can measure it
GroupWidths = Mapping[int, tuple[int, ...]]  # group index -> the widths that are worth choosing, ascending


def tabulate(network: NetworkGraph, law: NetworkLaw, widths: GroupWidths) -> tuple[tuple[TableRow, ...], float]:
    """The table's rows at all reachable combinations of `widths`, and the time in µs that no width changes.

    Every layer has a row, of zeros where the runtime merged it into another. A negative constant of the calibration
    (the profiler's own time, caches that serve small networks better) is taken out of the rows' own constants.
    """
    calibration = law.calibration
    rows = [
        _row(network, layer, key, law, widths)
        for layer in network.timed_layers()
        for key in [RowKey(layer.name, ""), *(key for key in law.rows if key.layer == layer.name and key.node)]
    ]
    one = np.ones(1, np.int64)
    before_layers = sum(float(row.times_us(one, one)[0]) for key, row in law.rows.items() if not key.layer)
    rest_us = calibration.constant_us + calibration.scale * before_layers
    cheapest = sum(row.latency_us[0][0] for row in rows)
    share = min(1.0, max(0.0, -rest_us) / max(cheapest, 1e-9))
    return tuple(_reduced(row, share * row.latency_us[0][0]) for row in rows), rest_us + share * cheapest


def _row(network: NetworkGraph, layer: Layer, key: RowKey, law: NetworkLaw, widths: GroupWidths) -> TableRow:
    ins, outs = _axes(network, layer, key, widths)
    prices = law.calibration.scale * _monotone(_prices(law.rows.get(key), ins, outs))
    kind = "other" if key.node else layer.kind
    return TableRow(key.layer, key.node, kind, tuple(ins), tuple(outs), tuple(map(tuple, prices.tolist())))


def _reduced(row: TableRow, constant_us: float) -> TableRow:
    """The row less a constant, which is at most its cheapest price."""
    return replace(row, latency_us=tuple(tuple(price - constant_us for price in line) for line in row.latency_us))


def widths_worth_choosing(
    network: NetworkGraph, law: NetworkLaw, min_keep_ratio: float, round_to: int
) -> dict[int, tuple[int, ...]]:
    """For every group the widths that are cheaper than all wider ones in a whole, a middling or a small network.

    On a staircase these are the ends of the steps; and a width that the runtime treats worse than a larger one (thinner
    than its block) is nobody's choice. What is left out costs, in the table, what the next wider width does.
    """
    grids = [
        width_grid(group.channels, min_keep_ratio, round_to) if group.prunable else (group.channels,)
        for group in network.groups
    ]
    full = [grid[-1] for grid in grids]
    free_us = _FREE * sum(float(_layer_prices(network, law, layer, [full])[0]) for layer in network.timed_layers())
    surroundings = (full, [grid[len(grid) // 2] for grid in grids], [grid[0] for grid in grids])
    chosen: dict[int, tuple[int, ...]] = {}
    for group, grid in zip(network.groups, grids, strict=True):
        worth: set[int] = set()
        for others in surroundings:
            worth |= _bargains(grid, _group_prices(network, law, group, grid, others), free_us)
        chosen[group.index] = tuple(sorted(worth))
    return chosen


def _bargains(grid: Sequence[int], prices: Floats, free_us: float) -> set[int]:
    """The widths that are cheaper than every wider one."""
    found, cheapest = set(), np.inf
    for width, price in zip(reversed(grid), reversed(prices.tolist()), strict=True):
        if price < cheapest - free_us:
            found.add(width)
            cheapest = price
    return found


def _group_prices(
    network: NetworkGraph, law: NetworkLaw, group: ChannelGroup, grid: Sequence[int], others: Sequence[int]
) -> Floats:
    """What the layers that depend on a group cost (len(grid),) at each of its widths, beside `others`."""
    kept = [[*others[: group.index], width, *others[group.index + 1 :]] for width in grid]
    depending = [
        layer
        for layer in network.timed_layers()
        if any(span.group == group.index for span in (*layer.in_spans, *layer.out_spans))
    ]
    return sum((_layer_prices(network, law, layer, kept) for layer in depending), np.zeros(len(grid)))


def _layer_prices(network: NetworkGraph, law: NetworkLaw, layer: Layer, kept: Sequence[Sequence[int]]) -> Floats:
    """What a layer and the nodes behind it cost (len(kept),), before calibration."""
    widths_of = width_function(layer, network)
    pairs = np.array([widths_of(widths) for widths in kept], np.int64)
    rows = [(key, row) for key, row in law.rows.items() if key.layer == layer.name]
    prices = [row.times_us(pairs[:, 1] if key.node else pairs[:, 0], pairs[:, 1]) for key, row in rows]
    return sum(prices, np.zeros(len(kept)))


def _axes(network: NetworkGraph, layer: Layer, key: RowKey, widths: GroupWidths) -> tuple[list[int], list[int]]:
    """The row's reachable input and output channels; no input axis for rows of one width."""
    outs = _reachable(layer.out_channels, layer.out_spans, network, widths)
    if key.node or layer.kind in ("depthwise", "other"):
        return [], outs
    return _reachable(layer.in_channels, layer.in_spans, network, widths), outs


def _reachable(channels: int, spans: AxisSpans, network: NetworkGraph, widths: GroupWidths) -> list[int]:
    """All sums that the groups along an axis can make, with the ungrouped channels that always stay."""
    together: dict[int, int] = {}
    for span in spans:  # a group that stands twice along the axis has one width
        together[span.group] = together.get(span.group, 0) + span.positions
    fixed = channels - sum(positions * network.groups[group].channels for group, positions in together.items())
    sums = {fixed}
    for group, positions in together.items():
        sums = {total + positions * width for total, width in product(sums, widths[group])}
    return sorted(sums)


def _prices(row: RowLaw | None, ins: Sequence[int], outs: Sequence[int]) -> Floats:
    """Prices (len(ins) or 1, len(outs)) before calibration."""
    in_grid, out_grid = np.meshgrid(ins or [1], outs, indexing="ij")
    if row is None:
        return np.zeros(in_grid.shape)
    if not ins:
        in_grid = out_grid
    return row.times_us(in_grid.ravel(), out_grid.ravel()).reshape(in_grid.shape)


def _monotone(prices: Floats) -> Floats:
    """The mean of the lowest never-falling surface above the prices and the highest one below them."""
    above, below = prices, prices[::-1, ::-1]
    for axis in (0, 1):
        above = np.maximum.accumulate(above, axis=axis)
        below = np.minimum.accumulate(below, axis=axis)
    middle: Floats = 0.5 * (above + below[::-1, ::-1])
    return middle


def describe_law(law: NetworkLaw) -> dict[str, object]:
    """The law as plain values, for the table's evidence."""
    calibration: Calibration = law.calibration
    return {
        "scale": calibration.scale,
        "constant_us": calibration.constant_us,
        "profiler_us_per_node": law.overhead_us,
        "rows": [
            {"layer": key.layer, "node": key.node, **asdict(row.form), "coefficients": list(row.coefficients)}
            for key, row in law.rows.items()
        ],
    }

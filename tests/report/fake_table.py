"""A latency table of the invented network: prices grow with the MACs, and the carriers err by a percent or two."""

from __future__ import annotations

import numpy as np

from amc_mobile.cost.table import CarrierPoint, LatencyTable, TableRow, Validation
from amc_mobile.measurements import DeviceInfo
from amc_mobile.types import Layer, NetworkGraph

REST_US = 40.0


def fake_table(graph: NetworkGraph, device: DeviceInfo) -> LatencyTable:
    rng = np.random.default_rng(5)
    measured = [float(value) for value in np.round(rng.uniform(120.0, 600.0, 18), 1)]
    errors = rng.normal(0.0, 0.016, 18)
    validation = Validation(
        carriers=len(measured),
        mape=float(np.abs(errors).mean()),
        max_error=float(np.abs(errors).max()),
        bias=float(errors.mean()),
        within_5=1.0,
        within_10=1.0,
        noise_floor=0.011,
        macs_affine_mape=0.058,
        points=tuple(CarrierPoint(us, us * (1 + float(error))) for us, error in zip(measured, errors, strict=True)),
    )
    rows = tuple(_row(layer) for layer in graph.layers)
    return LatencyTable(graph.name, "ab" * 32, device, rows, REST_US, validation)


def _row(layer: Layer) -> TableRow:
    per_weight = layer.out_hw[0] * layer.out_hw[1] * layer.kernel[0] * layer.kernel[1] / 9e3
    outs = _widths(layer.out_channels)
    if layer.kind == "depthwise":
        return TableRow(layer.name, "", layer.kind, (), outs, (tuple(4 * per_weight * out for out in outs),))
    ins = _widths(layer.in_channels)
    prices = tuple(tuple(per_weight * into * out for out in outs) for into in ins)
    return TableRow(layer.name, "", layer.kind, ins, outs, prices)


def _widths(channels: int) -> tuple[int, ...]:
    return (*range(4, channels, 4), channels)

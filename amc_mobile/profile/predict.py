"""What a table's laws say of one network at its exact widths: the prediction that is held against the clock.

The table's own prices serve the search: they never fall with a width, and a width in between costs what the next one
worth choosing does. Where a runtime is slower with fewer channels (thin layers), such prices must be off. The laws need
not be monotone; they are what the table's leave-one-out error speaks of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from amc_mobile.cost.pricer import width_function
from amc_mobile.cost.table import LatencyTable
from amc_mobile.profile.campaign import SENTINEL
from amc_mobile.profile.fit import row_shape
from amc_mobile.profile.law import Calibration, Form, RowLaw
from amc_mobile.profile.mapping import RowKey
from amc_mobile.types import NetworkGraph


def predict_us(table: LatencyTable, network: NetworkGraph, kept: Sequence[int]) -> float:
    """End-to-end time in µs when group g keeps `kept[g]` channels; the table's price if it brings no laws.

    The price too if the laws know other groups than this view of the network (layers pinned by --skip).
    """
    law = table.evidence.get("law")
    if not law or {group.name for group in network.prunable()} != set(table.widths):
        return table.latency_us(network, kept)
    rows_us = sum(_row_us(network, row, kept) for row in law["rows"])
    return float(law["constant_us"]) + float(law["scale"]) * rows_us


def original_us(table: LatencyTable, network: NetworkGraph) -> float:
    """The full network's time in µs when the table was measured: read off the clock, or priced if the table is bare."""
    measured = table.evidence.get("measured_us", {})
    return float(measured.get(SENTINEL) or table.latency_us(network, network.full().kept))


def macs_line(table: LatencyTable) -> Calibration:
    """The best straight line through the MACs of the networks that the table was made from: the baseline."""
    line = table.evidence["macs_affine"]
    return Calibration(float(line["constant_us"]), float(line["us_per_million_macs"]) / 1e6)


def _row_us(network: NetworkGraph, row: Mapping[str, Any], kept: Sequence[int]) -> float:
    key = RowKey(row["layer"], row["node"])
    form = Form(int(row["block"]), row["sets"], bool(row["thin"]))
    law = RowLaw(row_shape(network, key), form, tuple(row["coefficients"]))
    layer = next((layer for layer in network.layers if layer.name == key.layer), None)
    ins, outs = (1, 1) if layer is None else width_function(layer, network)(kept)
    wide = np.array([outs if key.node else ins], np.int64)
    return float(law.times_us(wide, np.array([outs], np.int64))[0])

"""The networks that are timed: one network's graph at any policy, as the device gets it."""

from __future__ import annotations

from collections.abc import Sequence

from amc_mobile.graph.traced import TracedGraph, first_channels
from amc_mobile.profile.mapping import NodeMap, RowKey
from amc_mobile.types import NodeTime, Policy


class Variants:
    """Slices of one traced network, and which row of the table each node of the runtime belongs to."""

    def __init__(self, traced: TracedGraph) -> None:
        self.traced = traced
        self._nodes = NodeMap(traced.model, traced.network)

    def model(self, policy: Policy) -> bytes:
        """The network at these widths as serialised ONNX; which channels stay does not change its time."""
        model: bytes = self.traced.slice(first_channels(policy)).SerializeToString()
        return model

    def rows(self, nodes: Sequence[NodeTime]) -> dict[RowKey, tuple[float, ...]]:
        """Times of the table's rows, round by round, µs."""
        return self._nodes.rows(nodes)

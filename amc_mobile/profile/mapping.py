"""Which layer a node of the runtime's graph belongs to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx

from amc_mobile.measurements import NodeTime
from amc_mobile.types import NetworkGraph

_COMPUTES = ("Conv", "Gemm", "MatMul")  # also as part of the name of a fused operator


@dataclass(frozen=True, slots=True)
class RowKey:
    """A row of times: a layer itself (`node` empty), or the nodes of one kind that the runtime runs behind it.

    `layer` is empty for nodes in front of all layers.
    """

    layer: str
    node: str


class NodeMap:
    """From the tensors of the original graph to the layers that they come from."""

    def __init__(self, model: onnx.ModelProto, network: NetworkGraph) -> None:
        self._exact = {layer.output: layer.name for layer in network.layers}
        order = {layer.name: place for place, layer in enumerate(network.layers)}
        self._sources = _sources(model, self._exact, order)

    def rows(self, nodes: Sequence[NodeTime]) -> dict[RowKey, tuple[float, ...]]:
        """Times of the rows, round by round, µs: the nodes of a row are added up."""
        rows: dict[RowKey, tuple[float, ...]] = {}
        for key, node in zip(self.keys(nodes), nodes, strict=True):
            before = rows.get(key, (0.0,) * len(node.round_us))
            rows[key] = tuple(a + b for a, b in zip(before, node.round_us, strict=True))
        return rows

    def keys(self, nodes: Sequence[NodeTime]) -> list[RowKey]:
        """The row of each node.

        A convolution that swallowed the sum behind it writes a tensor that comes from both branches: it is the branch
        that no other node accounts for.
        """
        computing = [any(part in node.op_type for part in _COMPUTES) for node in nodes]
        layers = [self._layer(node) if computes else None for node, computes in zip(nodes, computing, strict=True)]
        claimed = {layer for layer in layers if layer is not None}
        keys = []
        for node, computes, layer in zip(nodes, computing, layers, strict=True):
            sources = self._sources_of(node)
            owner = layer
            if computes and layer is None:
                owner = next((name for name in reversed(sources) if name not in claimed), None)
                claimed.add(owner or "")
            anchor = sources[-1] if sources else ""
            keys.append(RowKey(anchor, node.op_type) if owner is None else RowKey(owner, ""))
        return keys

    def _layer(self, node: NodeTime) -> str | None:
        """The layer whose own output the node writes."""
        return next((self._exact[name] for name in node.outputs if name in self._exact), None)

    def _sources_of(self, node: NodeTime) -> tuple[str, ...]:
        return next((self._sources[name] for name in node.outputs if name in self._sources), ())


def _sources(model: onnx.ModelProto, exact: Mapping[str, str], order: Mapping[str, int]) -> dict[str, tuple[str, ...]]:
    """For every tensor the layers whose outputs reach it through no other layer, in the order of execution."""
    sources: dict[str, tuple[str, ...]] = defaultdict(tuple)
    for node in model.graph.node:
        arriving = {layer for name in node.input for layer in sources[name]}
        flowing = tuple(sorted(arriving, key=order.__getitem__))
        for name in node.output:
            sources[name] = (exact[name],) if name in exact else flowing
    return dict(sources)

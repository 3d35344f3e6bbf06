"""What happened to the network: the width of every group, the cost of every layer, and what could not be pruned."""

from __future__ import annotations

from dataclasses import dataclass

from amc_mobile.cost import formulas
from amc_mobile.cost.pricer import width_function
from amc_mobile.report.sources import Sources
from amc_mobile.types import ChannelGroup, Layer


@dataclass(frozen=True, slots=True)
class GroupRow:
    """One decision of the agent: how many of a group's channels stay (None before there is a policy)."""

    name: str
    channels: int
    kept: int | None
    producers: tuple[str, ...]
    consumers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PinnedRow:
    """Channels that had to stay, and why."""

    name: str
    channels: int
    reason: str


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One layer before and after. Latency is the table's, inside the network, and None without a table."""

    name: str
    kind: str
    kernel: tuple[int, int]
    in_before: int
    in_after: int | None
    out_before: int
    out_after: int | None
    macs_before: int
    macs_after: int | None
    before_us: float | None
    after_us: float | None


@dataclass(frozen=True, slots=True)
class StructureFacts:
    """The network, group by group and layer by layer, in the order of execution."""

    groups: tuple[GroupRow, ...]
    pinned: tuple[PinnedRow, ...]
    layers: tuple[LayerRow, ...]
    rest_us: float | None  # what the table charges outside layers
    unit: str = "channels"  # what the groups' widths count


def structure_facts(sources: Sources) -> StructureFacts:
    """Rows for the pictures and tables about the network itself."""
    network, table = sources.network, sources.table
    return StructureFacts(
        groups=tuple(_group_row(group, sources.kept) for group in network.prunable()),
        pinned=tuple(_pinned_row(group) for group in network.groups if not group.prunable),
        layers=tuple(_layer_row(layer, sources) for layer in network.layers),
        rest_us=None if table is None else float(table.rest_us),
        unit="kernels of weights" if sources.fine_grained else "channels",
    )


def _group_row(group: ChannelGroup, kept: tuple[int, ...] | None) -> GroupRow:
    width = None if kept is None else kept[group.index]
    return GroupRow(group.name, group.channels, width, group.producers, group.consumers)


def _pinned_row(group: ChannelGroup) -> PinnedRow:
    return PinnedRow(group.name, group.channels, group.reason or "no reason recorded")


def _layer_row(layer: Layer, sources: Sources) -> LayerRow:
    kept = sources.kept
    in_after, out_after = _widths(layer, sources)
    return LayerRow(
        name=layer.name,
        kind=layer.kind,
        kernel=layer.kernel,
        in_before=layer.in_channels,
        in_after=in_after,
        out_before=layer.out_channels,
        out_after=out_after,
        macs_before=formulas.layer_macs(layer, sources.network.full().kept),
        macs_after=None if kept is None else formulas.layer_macs(layer, kept),
        before_us=_layer_us(layer, sources, layer.in_channels, layer.out_channels),
        after_us=_layer_us(layer, sources, in_after, out_after),
    )


def _widths(layer: Layer, sources: Sources) -> tuple[int, int] | tuple[None, None]:
    """Input and output channels after pruning; zeros change neither."""
    if sources.kept is None:
        return None, None
    if sources.fine_grained:
        return layer.in_channels, layer.out_channels
    return width_function(layer, sources.network)(sources.kept)


def _layer_us(layer: Layer, sources: Sources, inputs: int | None, outputs: int | None) -> float | None:
    if sources.table is None or inputs is None or outputs is None:
        return None
    return float(sources.table.layer_us(layer.name, inputs, outputs))

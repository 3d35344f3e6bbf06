"""What can be pruned in a network, in words: every channel group with all of its members."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from amc_mobile.cli.console import print_json
from amc_mobile.runs import plain

if TYPE_CHECKING:
    from amc_mobile.types import ChannelGroup, NetworkGraph

_WIDTH = 120


def show_graph(network: NetworkGraph, as_json: bool) -> None:
    """Prints the channel groups: their size, what writes, hands on and reads them, and why some cannot be pruned."""
    if as_json:
        print_json(_facts(network))
        return
    for group in network.groups:
        print(f"{group.name}: {_size(network, group)}, {'prunable' if group.prunable else f'pinned: {group.reason}'}")
        _print_members("written by", group.producers)
        _print_members("handed on by", _between(network, group))
        _print_members("read by", group.consumers)
    prunable = network.prunable()
    print(
        f"{network.name}: {len(network.layers)} layers, {len(prunable)} prunable groups of "
        f"{sum(group.channels for group in prunable)} channels, {len(network.groups) - len(prunable)} pinned"
    )


def _facts(network: NetworkGraph) -> dict[str, Any]:
    """The network as plain data, each group with the depthwise layers in between too."""
    groups = [{**plain(group), "depthwise": _between(network, group)} for group in network.groups]
    return {**plain(network), "groups": groups}


def _between(network: NetworkGraph, group: ChannelGroup) -> list[str]:
    """The depthwise layers that hand the group's channels on."""
    return [
        layer.name
        for layer in network.layers
        if layer.kind == "depthwise" and any(span.group == group.index for span in layer.in_spans)
    ]


def _size(network: NetworkGraph, group: ChannelGroup) -> str:
    """How many channels can leave, and how many places each of them takes where it is made."""
    made = [span for layer in network.layers if layer.name in group.producers for span in layer.out_spans]
    places = next((span.positions for span in made if span.group == group.index), 1)
    one = "channel" if group.channels == 1 else "channels"
    return f"{group.channels} {one}" + (f" at {places} places each" if places > 1 else "")


def _print_members(title: str, names: Sequence[str]) -> None:
    if names:
        indent = " " * 18
        print(textwrap.fill(", ".join(names), _WIDTH, initial_indent=f"    {title:<14}", subsequent_indent=indent))

"""Networks from the command line: by name, from the user's function, or from an ONNX file (then without torch)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from amc_mobile.cli.checks import check_weights_file
from amc_mobile.cli.console import note, print_json, print_table, working
from amc_mobile.cli.session import read_onnx
from amc_mobile.errors import ConfigError

if TYPE_CHECKING:
    from amc_mobile.config import ModelConfig
    from amc_mobile.graph.traced import TracedGraph
    from amc_mobile.types import NetworkGraph

_SHOWN = 3  # layers named per group before the rest is counted


def trace_network(model: ModelConfig) -> TracedGraph:
    """The network as one graph with its channel groups. Raises: ConfigError, DataError, GraphError."""
    from amc_mobile.graph.trace import trace

    check_weights_file(model.weights)
    if Path(model.name).suffix == ".onnx":
        if model.weights is not None:
            raise ConfigError(f"{model.name} has its weights inside; leave out --weights")
        return trace(read_onnx(Path(model.name)), Path(model.name).stem)
    with working():
        from amc_mobile.export.to_onnx import export
        from amc_mobile.models.zoo import find, load_module

        entry = find(model.name)
        note(f"exporting {entry.name} to ONNX")
        return trace(export(load_module(entry, model.weights), entry.input_shape), entry.name)


def show_graph(network: NetworkGraph, as_json: bool) -> None:
    """Prints the channel groups: their size, what writes and reads them, and why some cannot be pruned."""
    if as_json:
        print_json(network)
        return
    rows = [("group", "channels", "written by", "read by", "")]
    rows += [
        (
            group.name,
            str(group.channels),
            _some(group.producers),
            _some(group.consumers),
            "" if group.prunable else f"pinned: {group.reason}",
        )
        for group in network.groups
    ]
    print_table(rows)
    prunable = network.prunable()
    print(
        f"{network.name}: {len(network.layers)} layers, {len(prunable)} prunable groups of "
        f"{sum(group.channels for group in prunable)} channels, {len(network.groups) - len(prunable)} pinned"
    )


def _some(names: tuple[str, ...]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")

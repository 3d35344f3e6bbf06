"""Networks from the command line: by name, from the user's function, or from an ONNX file (then without torch)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amc_mobile.cli.checks import check_weights_file
from amc_mobile.cli.console import note, working
from amc_mobile.cli.session import read_onnx
from amc_mobile.errors import ConfigError

if TYPE_CHECKING:
    from amc_mobile.graph.traced import TracedGraph
    from amc_mobile.sections.model import ModelConfig


def trace_network(model: ModelConfig) -> TracedGraph:
    """The network as one graph with its channel groups. Raises: ConfigError, DataError, GraphError."""
    from amc_mobile.graph.trace import trace

    check_weights_file(model.weights)
    if model.onnx is not None:
        from amc_mobile.export.from_onnx import adopt

        if model.weights is not None:
            raise ConfigError(f"{model.name} has its weights inside; leave out --weights")
        return trace(adopt(read_onnx(model.onnx)), model.onnx.stem, model.skip)
    with working():
        from amc_mobile.export.to_onnx import export
        from amc_mobile.models.zoo import entry_of, load_module
        from amc_mobile.prune.stubborn import pin_stubborn

        entry = entry_of(model)
        note(f"exporting {entry.name} to ONNX")
        module = load_module(entry, model.weights)
        return trace(pin_stubborn(module, export(module, entry.input_shape)), entry.name, model.skip)

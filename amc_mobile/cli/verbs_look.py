"""`amc graph`, `amc compare` and `amc table`: look at what is known of a network, of runs, or of a device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from amc_mobile.cli import options

_TableFile = Annotated[Path, typer.Argument(help="A latency table (its .json file).", show_default=False)]


def register(app: typer.Typer) -> None:
    """Adds the commands to the app."""
    app.command()(graph)
    app.command()(compare)
    table = typer.Typer(no_args_is_help=True, help="Look at latency tables.")
    for verb in (show, validate, diff):
        table.command()(verb)
    app.add_typer(table, name="table")


def graph(
    model: Annotated[str, typer.Argument(help="A network's name, package.module:function, or FILE.onnx.")],
    skip: options.Skip = None,
    json: options.Json = False,
) -> None:
    """Show what can be pruned in a network.

    Its channel groups, the layers that write, hand on and read them, and why others are pinned.
    """
    from amc_mobile.cli.groups import show_graph
    from amc_mobile.cli.networks import trace_network
    from amc_mobile.sections.model import ModelConfig

    show_graph(trace_network(ModelConfig(name=model, skip=skip or [])).network, json)


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders of finished runs.", show_default=False)],
    out: Annotated[Path | None, typer.Option("--out", help="Draw the picture into this FILE.svg or FILE.png.")] = None,
    json: options.Json = False,
) -> None:
    """Set runs of one network on one device beside each other: accuracy against measured latency.

    Original and pruned networks, in fp32 and int8, with 95 % intervals. Runs were timed at different times: their
    times are brought to one clock by those of the original.
    """
    from amc_mobile.cli.comparing import show_compared

    show_compared(runs, out, json)


def show(file: _TableFile, json: options.Json = False) -> None:
    """Show whose table it is and how wrong it is."""
    from amc_mobile.cli.tables import show_table

    show_table(file, json)


def validate(
    file: _TableFile,
    model: Annotated[
        str | None, typer.Option("--model", help="The table's network, where its name does not say: FILE.onnx, p.m:f.")
    ] = None,
    networks: Annotated[int, typer.Option("--networks", min=2, help="Fresh random networks to measure.")] = 12,
    max_error: Annotated[float, typer.Option("--max-error", help="Largest mean error allowed, as a fraction.")] = 0.05,
    file_only: Annotated[
        bool, typer.Option("--file-only", help="Measure nothing: is the file whole, and exact enough by its own word?")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="Of the random networks.")] = 1000,
    json: options.Json = False,
) -> None:
    """Measure fresh random networks on the table's device, and say how wrong the table is about them.

    Exit code 1 if it is off by more than allowed, damaged, or of another device, runtime or network; 4 if the clock is
    too noisy to tell.
    """
    from amc_mobile.cli.tables import check_file, validate_table

    if file_only:
        check_file(file, max_error, json)
    else:
        validate_table(file, model, networks, max_error, seed, json)


def diff(
    first: _TableFile,
    second: Annotated[Path, typer.Argument(help="Another table of the same network.", show_default=False)],
    json: options.Json = False,
) -> None:
    """Compare two tables of one network.

    Layer by layer at full width, in µs.
    """
    from amc_mobile.cli.tables import show_difference

    show_difference(first, second, json)

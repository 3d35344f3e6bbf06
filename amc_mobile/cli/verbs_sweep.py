"""`amc sweep`: many runs on many machines, one page about them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from amc_mobile.cli import options

_LIMITS = "Share of the original's, or an amount. May be repeated: one run for each."
Latencies = Annotated[list[str] | None, typer.Option("--latency", help=f"Budget: 0.5 or 20ms. {_LIMITS}")]
Macs = Annotated[list[str] | None, typer.Option("--macs", help=f"Budget: 0.5 or 150M. {_LIMITS}")]
Params = Annotated[list[str] | None, typer.Option("--params", help=f"Budget: 0.5 or 2M. {_LIMITS}")]
Bytes = Annotated[list[str] | None, typer.Option("--bytes", help=f"Budget: 0.5 or 8MB. {_LIMITS}")]
Memory = Annotated[list[str] | None, typer.Option("--memory", help=f"Budget: 0.5 or 3MB. {_LIMITS}")]


def register(app: typer.Typer) -> None:
    """Adds the command to the app."""
    app.command()(sweep)


def sweep(
    config: Annotated[
        Path, typer.Argument(help="TOML file of a run, or with a section [sweep] of many.", show_default=False)
    ],
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder in which the config's relative weights and image files lie.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the sweep: a run folder for each run, and report.html.")
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option("--device", help="host, cuda, or a phone as its node offers it. May be repeated."),
    ] = None,
    latency: Latencies = None,
    macs: Macs = None,
    params: Params = None,
    size: Bytes = None,
    memory: Memory = None,
    agent: Annotated[
        list[str] | None, typer.Option("--agent", help="Who searches: see amc search. May be repeated.")
    ] = None,
    seed: Annotated[list[int] | None, typer.Option("--seed", help="May be repeated: one run for each.")] = None,
    cpus: Annotated[int | None, typer.Option("--cpus", min=1, help="Cores of a search (default 1).")] = None,
    gpus: Annotated[
        float | None, typer.Option("--gpus", min=0.0, help="GPUs of a search, also a part of one (default 0).")
    ] = None,
    address: Annotated[
        str | None,
        typer.Option("--address", help="Ray cluster: HOST:6379, or auto for that of this machine (default: this one)."),
    ] = None,
    update: options.Update = False,
    force: options.Force = False,
    json: options.Json = False,
    dry_run: options.DryRun = False,
) -> None:
    """Do many runs, budgets x agents x seeds x devices, and write one page with their Pareto front.

    What runs share is made once: the trained network and calibration of a seed, the table of a device. Searches run at
    the same time; a device is measured by one job at a time. Type the same command to resume; a failed run leaves the
    others. Runs on this machine, or with --address on a Ray cluster whose machines all see --out and the data at the
    same path: `amc devices --ray` prints how a machine joins with its phones. Needs the extra ray.
    """
    from amc_mobile.cli.farming import conduct, show_plan, show_sweep
    from amc_mobile.cli.settings import override
    from amc_mobile.cli.sweeping import check_here, resolve
    from amc_mobile.errors import SweepError
    from amc_mobile.sweep.settings import load, with_options

    settings, base = load(config)
    limits = {"latency": latency, "macs": macs, "params": params, "bytes": size, "memory": memory}
    given = {
        "devices": device,
        "budgets": [{metric: limit} for metric, values in limits.items() for limit in values or ()],
        "agents": agent,
        "seeds": seed,
        "cpus": cpus,
        "gpus": gpus,
    }
    base = override(base, {"profile.force": force or None})
    todo = resolve(with_options(settings, given), base, out, data, update=update)
    if address is None:
        check_here(todo)
    if dry_run:
        show_plan(todo, json)
        return
    try:
        conduct(todo, address)
    except SweepError:
        show_sweep(todo.root, json)
        raise
    show_sweep(todo.root, json)

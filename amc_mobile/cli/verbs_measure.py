"""`amc profile`, `amc bench`: tables and comparisons, on one device or on many at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from amc_mobile.cli import options


def register(app: typer.Typer) -> None:
    """Adds the commands to the app."""
    for verb in (profile, bench):
        app.command()(verb)


def profile(
    model: Annotated[str, typer.Option("--model", help="A network's name, package.module:function, or FILE.onnx.")],
    weights: options.Weights = None,
    skip: options.Skip = None,
    device: options.DeviceNames = None,
    threads: options.Threads = None,
    precision: options.Precision = None,
    batch: options.Batch = None,
    cores: options.Cores = None,
    provider: options.Provider = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            help="nodes: layers timed inside whole networks; layers: each alone (default: nodes, if the device tells).",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder, or FILE.json (default: latency_tables/DEVICE/...).")
    ] = None,
    carriers: Annotated[
        int | None, typer.Option("--carriers", help="Randomly pruned variants to measure (default 16).")
    ] = None,
    force: options.Force = False,
    config: options.ConfigFile = None,
    seed: options.Seed = None,
    json: options.Json = False,
    dry_run: options.DryRun = False,
) -> None:
    """Measure a device and fit a latency table.

    The table says how wrong it is, and is refused above 5 % mean error. Type the same command to resume. Several
    devices are measured at once, a table for each.
    """
    from amc_mobile import config as configuration
    from amc_mobile.cli.named import device_names
    from amc_mobile.cli.open_device import check_device
    from amc_mobile.cli.settings import override
    from amc_mobile.cli.tables import profile_tables, show_profile_forecasts, show_tables

    base = configuration.RunConfig() if config is None else configuration.load(config)
    given = {
        "model.name": model,
        "model.weights": weights,
        "model.skip": skip or None,
        "device.threads": threads,
        "device.precision": precision,
        "device.batch": batch,
        "device.cores": options.core_list(cores),
        "device.provider": provider,
        "profile.method": method,
        "profile.carriers": carriers,
        "profile.force": force or None,
        "seed": seed,
    }
    settings = [override(base, given | {"device.name": name}) for name in device_names(device)]
    for each in settings:
        check_device(each.device)
    if dry_run:
        show_profile_forecasts(settings, json)
        return
    show_tables(profile_tables(settings, out), json)


def bench(
    run: options.Run,
    device: options.DeviceNames = None,
    threads: options.Threads = None,
    precision: options.Precision = None,
    cores: options.Cores = None,
    provider: options.Provider = None,
    table: Annotated[
        Path | None,
        typer.Option("--table", help="A further device's table of this network (default: latency_tables/DEVICE/...)."),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Measure again, even if it was done before.")] = False,
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """Time original against pruned network on a device, and write the report.

    Interleaved, with a 95 % interval, the table's prediction beside the clock, and both networks in int8. What was
    searched and no more is pruned first. Without --device it is the run's own; on others, networks are the same and the
    report gets a section for each.
    """
    from amc_mobile.cli.elsewhere import bench_on
    from amc_mobile.cli.named import device_names
    from amc_mobile.cli.summary import show_comparisons
    from amc_mobile.cli.verbs_stage import open_pipeline, prune_if_only_searched

    names = device_names(device)
    pipeline = open_pipeline(run, force=force)
    prune_if_only_searched(pipeline)
    pipeline.require("export")
    changes = {
        "device.threads": threads,
        "device.precision": precision,
        "device.cores": options.core_list(cores),
        "device.provider": provider,
    }
    paths = bench_on(pipeline, names, changes, table=table, again=again)
    show_comparisons(paths, json)

"""`amc profile`, `amc bench`, `amc devices`, `amc doctor`: everything that reads a clock."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from amc_mobile.cli import options


def register(app: typer.Typer) -> None:
    """Adds the commands to the app."""
    for verb in (profile, bench, devices, doctor):
        app.command()(verb)


def profile(
    model: Annotated[str, typer.Option("--model", help="A network's name, package.module:function, or FILE.onnx.")],
    weights: options.Weights = None,
    skip: options.Skip = None,
    device: options.DeviceName = None,
    threads: options.Threads = None,
    precision: options.Precision = None,
    batch: options.Batch = None,
    cores: options.Cores = None,
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

    The table says how wrong it is, and is refused above 5 % mean error. Type the same command to resume.
    """
    from amc_mobile import config as configuration
    from amc_mobile.cli.open_device import check_device_name
    from amc_mobile.cli.settings import override
    from amc_mobile.cli.tables import profile_table, show_profile_forecast, show_table

    base = configuration.RunConfig() if config is None else configuration.load(config)
    settings = override(
        base,
        {
            "model.name": model,
            "model.weights": weights,
            "model.skip": skip or None,
            "device.name": device,
            "device.threads": threads,
            "device.precision": precision,
            "device.batch": batch,
            "device.cores": options.core_list(cores),
            "profile.method": method,
            "profile.carriers": carriers,
            "profile.force": force or None,
            "seed": seed,
        },
    )
    check_device_name(settings.device.name)
    if dry_run:
        show_profile_forecast(settings, json)
        return
    show_table(profile_table(settings, out), json)


def bench(
    run: options.Run,
    device: options.DeviceName = None,
    again: Annotated[bool, typer.Option("--again", help="Measure again, even if it was done before.")] = False,
    json: options.Json = False,
) -> None:
    """Time original against pruned network on a device.

    Interleaved, with a 95 % interval, and the table's prediction beside the clock.
    """
    from amc_mobile.cli.open_device import check_device_name
    from amc_mobile.cli.summary import show_comparison
    from amc_mobile.cli.verbs_stage import open_pipeline

    pipeline = open_pipeline(run, {"device.name": device})
    check_device_name(pipeline.config.device.name)
    pipeline.require("export")
    pipeline.run(("bench",), again=again)
    show_comparison(pipeline.folder, json)


def devices(json: options.Json = False) -> None:
    """List the devices that can be used now."""
    from amc_mobile.cli.console import note, print_json, print_table, working
    from amc_mobile.cli.open_device import usable

    with working():
        found, missing = usable()
    if json:
        print_json({"devices": found, "missing": missing})
        return
    rows = [(info.name, info.model, info.os, info.runtime, info.provider) for info in found]
    print_table([("device", "model", "os", "runtime", "provider"), *rows])
    for name, reason in missing.items():
        note(f"{name}: {reason}")
    note("phones arrive with a later version")


def doctor(
    device: options.DeviceName = None,
    threads: options.Threads = None,
    precision: options.Precision = None,
    cores: options.Cores = None,
    json: options.Json = False,
) -> None:
    """Say whether a device can be measured now.

    Looks at clocks, load, heat and cores, and measures the noise with a small network. Exit code 4 if it is too noisy.
    """
    from amc_mobile.cli.console import print_json, progress_line, working
    from amc_mobile.cli.examination import show_health
    from amc_mobile.cli.open_device import open_device
    from amc_mobile.cli.settings import override
    from amc_mobile.config import RunConfig
    from amc_mobile.device.stability import examine

    changes = {
        "device.name": device,
        "device.threads": threads,
        "device.precision": precision,
        "device.cores": options.core_list(cores),
    }
    opened = open_device(override(RunConfig(), changes).device)
    with working(), progress_line("doctor") as progress:
        found = examine(opened, progress=progress)
    if json:
        print_json(found)
    else:
        show_health(found)
    if not found.steady:
        raise typer.Exit(4)

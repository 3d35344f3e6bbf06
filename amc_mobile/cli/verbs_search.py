"""`amc search`: from a trained network to the widths of every channel group, under a budget."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from amc_mobile.cli import options

_FRACTION = "as a fraction of the original's (0.5 = half)."


def register(app: typer.Typer) -> None:
    """Adds the command to the app."""
    app.command()(search)


def search(
    model: Annotated[
        str | None, typer.Option("--model", help="A network's name, package.module:function, or FILE.onnx.")
    ] = None,
    weights: options.Weights = None,
    skip: options.Skip = None,
    mean: options.Mean = None,
    std: options.Std = None,
    data: Annotated[
        str | None,
        typer.Option("--data", help="digits, cifar10:DIR, imagefolder:DIR, a .npz, or a .zip with labels.csv."),
    ] = None,
    table: Annotated[
        Path | None, typer.Option("--table", help="Latency table of this device and network; else it is measured.")
    ] = None,
    latency: Annotated[float | None, typer.Option("--latency", help=f"Limit on the latency, {_FRACTION}")] = None,
    macs: Annotated[float | None, typer.Option("--macs", help=f"Limit on the MACs, {_FRACTION}")] = None,
    params: Annotated[float | None, typer.Option("--params", help=f"Limit on the parameters, {_FRACTION}")] = None,
    bytes_: Annotated[float | None, typer.Option("--bytes", help=f"Limit on the ONNX file, {_FRACTION}")] = None,
    episodes: Annotated[int | None, typer.Option("--episodes", help="Episodes of the agent (default 400).")] = None,
    config: options.ConfigFile = None,
    device: options.DeviceName = None,
    out: options.Out = None,
    seed: options.Seed = None,
    json: options.Json = False,
    dry_run: options.DryRun = False,
    fresh: options.Fresh = False,
    update: options.Update = False,
    force: options.Force = False,
) -> None:
    """Search for the best widths under a budget.

    Exports the network, measures a latency table if one is needed and none is given, calibrates, and lets the agent
    search, all in the run folder. Type the same command to resume. Afterwards: amc prune, finetune, bench, report.
    """
    from amc_mobile import config as configuration
    from amc_mobile.cli import pipeline
    from amc_mobile.cli.checks import check
    from amc_mobile.cli.forecast import show_forecast
    from amc_mobile.cli.settings import override
    from amc_mobile.cli.summary import show_search

    base = configuration.RunConfig() if config is None else configuration.load(config)
    settings = override(
        base,
        {
            "model.name": model,
            "model.weights": weights,
            "model.skip": skip or None,
            "model.mean": options.numbers(mean, "--mean"),
            "model.std": options.numbers(std, "--std"),
            "data.name": data,
            "profile.table": table,
            "profile.force": force or None,
            "budget.latency": latency,
            "budget.macs": macs,
            "budget.params": params,
            "budget.bytes": bytes_,
            "search.episodes": episodes,
            "device.name": device,
            "out": out,
            "seed": seed,
        },
    )
    check(settings)
    timed = settings.budget.latency is not None or settings.profile.table is not None
    names = ("train", "graph", *(["profile"] if timed else []), "calibrate", "search")
    if dry_run:
        show_forecast(settings, json, names)
        return
    if fresh:
        pipeline.start_over(settings)
    work = pipeline.Pipeline(pipeline.open_run(settings, update=update), settings)
    work.run(names)
    show_search(work.folder, json)

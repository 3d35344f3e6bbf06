"""`amc search`: from a trained network to the widths of every channel group, under a budget."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from amc_mobile.cli import options

_SHARE = "a share of the original's (0.5 = half)"


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
        typer.Option(
            "--data",
            help="digits, cifar10:DIR, imagefolder:DIR, a .npz, or a .zip with labels.csv; for detectors shapes, "
            "coco:DIR, voc:DIR.",
        ),
    ] = None,
    table: Annotated[
        Path | None, typer.Option("--table", help="Latency table of this device and network; else it is measured.")
    ] = None,
    latency: Annotated[str | None, typer.Option("--latency", help=f"At most: {_SHARE}, or 20ms, 800us.")] = None,
    macs: Annotated[str | None, typer.Option("--macs", help=f"At most: {_SHARE}, or 150M.")] = None,
    params: Annotated[str | None, typer.Option("--params", help=f"At most: {_SHARE}, or 2M.")] = None,
    bytes_: Annotated[
        str | None,
        typer.Option(
            "--bytes", help=f"ONNX file (of single weights: those that are not zero), at most: {_SHARE}, or 8MB, 8MiB."
        ),
    ] = None,
    memory: Annotated[
        str | None, typer.Option("--memory", help=f"Activations at their peak, at most: {_SHARE}, or 3MB.")
    ] = None,
    also: Annotated[
        list[str] | None,
        typer.Option("--also", help="TABLE.json=20ms: a limit on the latency on a further device. May be repeated."),
    ] = None,
    agent: options.Agent = None,
    protocol: options.Protocol = None,
    max_loss: options.MaxLoss = None,
    reward: options.Reward = None,
    granularity: options.Granularity = None,
    episodes: options.Episodes = None,
    evaluations: options.Evaluations = None,
    importance: options.Importance = None,
    no_racing: options.NoRacing = False,
    evaluator: options.Evaluator = None,
    config: options.ConfigFile = None,
    device: options.DeviceName = None,
    threads: options.Threads = None,
    precision: options.Precision = None,
    batch: options.Batch = None,
    cores: options.Cores = None,
    out: options.Out = None,
    seed: options.Seed = None,
    pareto: Annotated[
        bool, typer.Option("--pareto", help="Print the Pareto front of all trials instead of the winner.")
    ] = False,
    json: options.Json = False,
    dry_run: options.DryRun = False,
    fresh: options.Fresh = False,
    update: options.Update = False,
    force: options.Force = False,
    elsewhere: options.Elsewhere = False,
) -> None:
    """Search for the best widths under one or several budgets, which all hold.

    Exports the network, measures a latency table if one is needed and none is given, calibrates, and lets the agent
    search, all in the run folder. Type the same command to resume. Afterwards: amc prune, finetune, bench, report.
    """
    from amc_mobile import config as configuration
    from amc_mobile.cli import pipeline
    from amc_mobile.cli.checks import check
    from amc_mobile.cli.explaining import show_front
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
            "profile.elsewhere": elsewhere or None,
            "budget.latency": latency,
            "budget.macs": macs,
            "budget.params": params,
            "budget.bytes": bytes_,
            "budget.memory": memory,
            "budget.also": options.further_devices(also),
            "search.agent": agent,
            "search.protocol": protocol,
            "search.max_loss": max_loss,
            "search.reward": reward,
            "search.granularity": granularity,
            "search.episodes": episodes,
            "search.evaluations": evaluations,
            "search.racing": False if no_racing else None,
            "search.evaluator": evaluator,
            "prune.importance": importance,
            "device.name": device,
            "device.threads": threads,
            "device.precision": precision,
            "device.batch": batch,
            "device.cores": options.core_list(cores),
            "out": out,
            "seed": seed,
        },
    )
    check(settings)
    timed = settings.needs_table or settings.profile.table is not None
    names = ("train", "graph", *(["profile"] if timed else []), "calibrate", "search", "refine", "settle")
    if dry_run:
        show_forecast(settings, json, names)
        return
    if fresh:
        pipeline.start_over(settings)
    work = pipeline.Pipeline(pipeline.open_run(settings, update=update), settings)
    work.run(names)
    if pareto:
        show_front(work.folder, settings, json)
    else:
        show_search(work.folder, json)

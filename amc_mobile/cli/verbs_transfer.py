"""`amc transfer`: the pruned backbone of a run, with a new classifier, on the user's own images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from amc_mobile.cli import options


def register(app: typer.Typer) -> None:
    """Adds the command to the app."""
    app.command()(transfer)


def transfer(
    run: options.Run,
    data: Annotated[
        str,
        typer.Option("--data", help="The other images: digits, cifar10:DIR, imagefolder:DIR, a .npz, or a .zip."),
    ],
    test: Annotated[
        str | None, typer.Option("--test", help="A second source for testing only (default: a part of --data).")
    ] = None,
    train_images: Annotated[
        int | None, typer.Option("--train-images", help="Train on so many of them (default: all that are left).")
    ] = None,
    test_images: Annotated[
        int | None, typer.Option("--test-images", help="Test on so many (default: what the source sets aside, or 1/4).")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, help="Passes over the training images (default 10).")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", help="At its peak; falls to zero along a cosine (default 0.05).")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            help="Train these alike and compare: original, uniform (pruned to the same budget), scratch (the pruned "
            "shape from random weights). A list: original,uniform,scratch.",
        ),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option("--seeds", min=1, help="Train each network so often (default 1).")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="The first of the seeds (default: the run's).")] = None,
    device: options.DeviceName = None,
    threads: Annotated[
        int | None, typer.Option("--threads", help="Of the timed networks (default: the run's).")
    ] = None,
    no_bench: Annotated[bool, typer.Option("--no-bench", help="Do not time the networks.")] = False,
    config: options.ConfigFile = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the transfer (default: RUN/transfer/NAME-OF-DATA).")
    ] = None,
    json: options.Json = False,
    dry_run: options.DryRun = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Remove what the transfer's folder holds and start over; the run stays.")
    ] = False,
    update: options.Update = False,
    force: Annotated[bool, typer.Option("--force", help="Time on a phone that is hot or low on battery.")] = False,
) -> None:
    """Bring a run's pruned network to other images, with other classes.

    Keeps the pruned backbone, puts a new classifier on it and trains both; writes policy.json, weights.pt, model.onnx,
    transfer.json and report.html. --against shows whether the advantage of pruning is kept: each opponent gets the same
    training, the same test images and the same clock. Type the same command to resume.
    """
    from amc_mobile.cli.open_device import check_device
    from amc_mobile.cli.transfer import open_folder, plan, settings_of, show_plan, show_transfer
    from amc_mobile.cli.transfer import transfer as do
    from amc_mobile.cli.verbs_stage import open_pipeline

    pipeline = open_pipeline(run)
    given = {
        "data.test": test,
        "data.train_images": train_images,
        "data.test_images": test_images,
        "finetune.epochs": epochs,
        "finetune.learning_rate": learning_rate,
        "against": None if against is None else [part.strip() for part in against.split(",") if part.strip()],
        "seeds": seeds,
        "seed": seed,
        "device.threads": threads,
        "out": out,
    }
    settings = settings_of(pipeline, data, device, config, given)
    pipeline.require("export")
    if dry_run:
        show_plan(plan(pipeline, settings), json)
        return
    if not no_bench:
        check_device(settings.device)
    folder = open_folder(settings, update=update, fresh=fresh)
    show_transfer(do(pipeline, settings, folder, bench=not no_bench, force=force), json)

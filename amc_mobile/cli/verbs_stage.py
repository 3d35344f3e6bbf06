"""`amc prune`, `finetune`, `export`, `report`, `why`: one step each on a run folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from amc_mobile.cli import options

if TYPE_CHECKING:
    from amc_mobile.cli.pipeline import Pipeline

_CUT = ("refine", "settle", "prune", "finetune")
_WRITTEN = ("export", "quantise")


def register(app: typer.Typer) -> None:
    """Adds the commands to the app."""
    for verb in (prune, finetune, export, report, why):
        app.command()(verb)


def prune(run: options.Run, point: options.Point = None, json: options.Json = False) -> None:
    """Cut the network to the widths found, and repair it.

    Writes policy.json, weights.pt, model.onnx and model.int8.onnx, without fine-tuning. Without --point it is the
    winner's widths.
    """
    from amc_mobile.cli.summary import show_network

    pipeline = open_pipeline(run, {"finetune.epochs": 0, "prune.point": point}, winner=point is None)
    pipeline.require("search" if point is None else pipeline.decided)
    pipeline.run((*_CUT, *_WRITTEN))
    show_network(pipeline.folder, json)


def finetune(
    run: options.Run,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Passes over the training images.")],
    learning_rate: options.LearningRate = None,
    batch_size: options.BatchSize = None,
    distillation: options.Distillation = None,
    label_smoothing: options.LabelSmoothing = None,
    ema: options.Ema = None,
    validation_images: options.ValidationImages = None,
    patience: options.Patience = None,
    train_precision: options.TrainPrecision = None,
    batch_norm: options.BatchNorm = None,
    json: options.Json = False,
) -> None:
    """Train the pruned network.

    Writes weights.pt, finetune.json, model.onnx and model.int8.onnx. Starts from the repaired network, also when it was
    trained before.
    Type the same command to resume. Several processes or GPUs share every batch:

    torchrun --nproc-per-node 2 -m amc_mobile.cli.main finetune RUN --epochs 10
    """
    from amc_mobile.cli.summary import show_network

    given = {
        "epochs": epochs,
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "distillation": distillation,
        "label_smoothing": label_smoothing,
        "ema": ema,
        "validation_images": validation_images,
        "patience": patience,
        "precision": train_precision,
        "batch_norm": batch_norm,
    }
    pipeline = open_pipeline(run, {f"finetune.{name}": value for name, value in given.items()})
    pipeline.require("prune")
    pipeline.run(("finetune", *_WRITTEN))
    show_network(pipeline.folder, json)


def export(
    run: options.Run,
    point: options.Point = None,
    out: Annotated[Path | None, typer.Option("--out", help="Also copy the ONNX file there.")] = None,
    json: options.Json = False,
) -> None:
    """Write the pruned network's ONNX file, and one in int8.

    Checks on real images that it answers as it should. With --point any other trial is cut and written. --out copies
    the file of the precision for which the search was made.
    """
    from amc_mobile.cli.summary import show_network
    from amc_mobile.errors import RunFolderError

    pipeline = open_pipeline(run, {"prune.point": point})
    pipeline.require("finetune" if point is None else pipeline.decided)
    pipeline.run((*(() if point is None else _CUT), *_WRITTEN))
    folder, in_int8 = pipeline.folder, pipeline.config.device.precision == "int8"
    if out is not None:
        try:
            shutil.copyfile(folder.model_int8 if in_int8 else folder.model_onnx, out)
        except OSError as error:
            raise RunFolderError(f"cannot write {out}: {error.strerror}; choose another --out FILE") from error
    show_network(pipeline.folder, json)


def report(run: options.Run, json: options.Json = False) -> None:
    """Test on unseen images and write the report.

    Writes accuracy.json, summary.json, report.html, report.md and report.json. Of a sweep's folder, its page.
    """
    from amc_mobile.cli.summary import show_summary
    from amc_mobile.report.sweep import is_sweep

    if is_sweep(run):
        from amc_mobile.cli.farming import report_sweep

        report_sweep(run, json)
        return
    pipeline = open_pipeline(run)
    pipeline.require("bench")
    pipeline.run(("evaluate",))
    pipeline.run(("report",), again=True)
    show_summary(pipeline.folder, json)


def why(run: options.Run, json: options.Json = False) -> None:
    """Say why each layer is as wide as it is.

    What its width costs in accuracy and saves in time, alone, and what one step wider or narrower would change.
    """
    from amc_mobile.cli.console import working
    from amc_mobile.cli.explaining import show_reasons

    pipeline = open_pipeline(run)
    pipeline.require("search")
    with working():
        session = pipeline.session()
    show_reasons(session, json)


def prune_if_only_searched(pipeline: Pipeline) -> None:
    """Cuts and exports what is searched and was never cut, unless it is to be trained: that takes long.

    A network that is there, of another point or trained under other settings, is left for its owner to judge.
    """
    there = pipeline.folder.weights.is_file() or pipeline.folder.model_onnx.is_file()
    if not there and not pipeline.config.finetune.epochs and pipeline.first_missing(pipeline.decided) is None:
        pipeline.run((*_CUT, *_WRITTEN))


def open_pipeline(
    run: Path, changes: dict[str, object] | None = None, *, winner: bool = False, force: bool = False
) -> Pipeline:
    """The stages of a run folder, with some settings replaced; `winner` takes back what `prune.point` says.

    `force` is for this process only: a phone that was hot once is not measured hot ever after.
    Raises: RunFolderError if it is none.
    """
    from amc_mobile import config as configuration
    from amc_mobile.cli.checks import check_trainable
    from amc_mobile.cli.pipeline import Pipeline
    from amc_mobile.cli.settings import override
    from amc_mobile.errors import RunFolderError
    from amc_mobile.runs import RunFolder

    folder = RunFolder(run)
    if not folder.config.is_file():
        raise RunFolderError(f"{run} is no run folder (it has no config.toml); type `amc search` or `amc run` first")
    config = override(configuration.load(folder.config), {"out": run, **(changes or {})})
    if winner:
        config = config.model_copy(update={"prune": config.prune.model_copy(update={"point": None})})
    check_trainable(config)
    return Pipeline(folder, config, force=force)

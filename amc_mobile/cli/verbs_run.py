"""`amc demo` and `amc run`: all stages of one config."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from amc_mobile.cli import options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from amc_mobile.config import RunConfig


def register(app: typer.Typer) -> None:
    """Adds the commands to the app."""
    app.command()(demo)
    app.command()(run)


def demo(
    out: options.Out = None,
    seed: options.Seed = None,
    json: options.Json = False,
    dry_run: options.DryRun = False,
    fresh: options.Fresh = False,
    update: options.Update = False,
) -> None:
    """Do the whole job on this machine in a few minutes.

    On real handwritten digits, without internet or phone: trains a small network, measures this machine, searches
    under half the latency, prunes, fine-tunes, benchmarks, and writes runs/demo/report.html.
    """
    from amc_mobile.cli.demo import demo_config
    from amc_mobile.cli.settings import override

    _everything(override(demo_config(), {"out": out, "seed": seed}), json, dry_run, fresh, update)


def run(
    config: Annotated[Path, typer.Argument(help="TOML file, for example configs/mobilenet_v2_imagenet.toml.")],
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder in which the config's relative weights and image files lie.")
    ] = None,
    out: options.Out = None,
    seed: options.Seed = None,
    json: options.Json = False,
    dry_run: options.DryRun = False,
    fresh: options.Fresh = False,
    update: options.Update = False,
    force: options.Force = False,
    elsewhere: options.Elsewhere = False,
    stage: Annotated[
        list[str] | None,
        typer.Option("--stage", help="Do this stage only (--dry-run lists them). May be repeated."),
    ] = None,
    reuse: Annotated[
        list[Path] | None,
        typer.Option("--reuse", help="Run folder: what it finished from the same settings is taken from there."),
    ] = None,
) -> None:
    """Do all stages of a config, from network to report.

    Stages that are done already are not done again: type the same command to resume.
    """
    from amc_mobile import config as configuration
    from amc_mobile.cli.settings import override, with_data_folder

    given = {"out": out, "seed": seed, "profile.force": force or None, "profile.elsewhere": elsewhere or None}
    settings = override(with_data_folder(configuration.load(config), data), given)
    _everything(settings, json, dry_run, fresh, update, stage, reuse or ())


def _everything(
    config: RunConfig,
    json: bool,
    dry_run: bool,
    fresh: bool,
    update: bool,
    stages: Sequence[str] | None = None,
    reuse: Sequence[Path] = (),
) -> None:
    from amc_mobile.cli import pipeline
    from amc_mobile.cli.checks import check
    from amc_mobile.cli.console import note
    from amc_mobile.cli.forecast import show_forecast
    from amc_mobile.cli.summary import show_summary
    from amc_mobile.runs import RunFolder

    check(config)
    if dry_run:
        show_forecast(config, json, stages)
        return
    if fresh:
        pipeline.start_over(config)
    work = pipeline.Pipeline(pipeline.open_run(config, update=update), config)
    if stages:
        work.require_before(stages)
    if all(work.finished(stage.name) for stage in work.stages):
        note(f"{work.folder.root} is complete; --fresh starts over")
    else:
        work.run(stages or None, reuse=[RunFolder(folder) for folder in reuse])
    if work.finished("report"):
        show_summary(work.folder, json)
    elif json:
        show_forecast(config, json)
    else:
        left = [each.name for each in work.stages if not work.finished(each.name)]
        note(f"{work.folder.root}: still to do: {', '.join(left)}")

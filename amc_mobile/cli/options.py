"""Options that several commands share, each with its help text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from amc_mobile.errors import ConfigError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, and nothing else there.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done and about how long, and do nothing.")]
Out = Annotated[Path | None, typer.Option("--out", help="Run folder: everything that is made goes there.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of every random choice (default 0).")]
DeviceName = Annotated[str | None, typer.Option("--device", help="Where to measure: host is this machine.")]
Threads = Annotated[int | None, typer.Option("--threads", help="Threads of the measured network (default 1).")]
Force = Annotated[bool, typer.Option("--force", help="Use a latency table even if its own error is above 5 %.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Remove what the run folder holds of this run and start over.")]
Update = Annotated[bool, typer.Option("--update", help="Take changed settings and redo just what depends on them.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="TOML file with the settings not given here.")]
Weights = Annotated[Path | None, typer.Option("--weights", help="state_dict file of the trained network.")]
Skip = Annotated[
    list[str] | None, typer.Option("--skip", help="A layer that keeps all its channels, in and out. May be repeated.")
]
Run = Annotated[Path, typer.Argument(help="A run folder.", show_default=False)]
Mean = Annotated[
    str | None,
    typer.Option("--mean", help="Of the images the network was trained with, per channel: 0.485,0.456,0.406."),
]
Std = Annotated[str | None, typer.Option("--std", help="As --mean: 0.229,0.224,0.225.")]


def numbers(text: str | None, option: str) -> list[float] | None:
    """The numbers of a list like "0.485,0.456,0.406"; None for None. Raises: ConfigError."""
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(
            f"{option} {text!r} is no list of numbers; type it like {option} 0.485,0.456,0.406"
        ) from error

"""Options that several commands share, each with its help text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
Model = Annotated[str, typer.Option("--model", help="A network's name, or your own package.module:function.")]
Weights = Annotated[Path | None, typer.Option("--weights", help="state_dict file of the trained network.")]
Run = Annotated[Path, typer.Argument(help="A run folder.", show_default=False)]

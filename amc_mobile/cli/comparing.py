"""`amc compare`: finished runs of one network on one device, in one picture and one table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amc_mobile.cli.console import note, print_json, print_table
from amc_mobile.errors import ConfigError
from amc_mobile.report import wording as say
from amc_mobile.report.comparing import compare_runs, table_rows
from amc_mobile.runs import RunFolder, write_bytes, write_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from amc_mobile.report.comparing import Compared

FORMS = (".svg", ".png")


def show_compared(runs: Sequence[Path], out: Path | None, as_json: bool) -> None:
    """Prints the points on stdout and draws them. Raises: RunFolderError, ConfigError for another kind of picture."""
    if out is not None and out.suffix not in FORMS:
        raise ConfigError(f"--out {out} is no picture; give it one of the endings {', '.join(FORMS)}")
    compared = compare_runs([RunFolder(run) for run in runs])
    if out is not None:
        draw(compared, out)
    if as_json:
        print_json(compared)
        return
    print_table([tuple(map(say.plain_ascii, row)) for row in table_rows(compared.points, compared.device)])
    off = max(compared.runs, key=lambda run: abs(run.clock - 1.0))
    if len(compared.runs) > 1:
        most = say.signed_percent(off.clock - 1)
        print(say.plain_ascii(f"times were brought to one clock by the originals': by {most} at most ({off.folder})"))


def draw(compared: Compared, out: Path) -> None:
    """Writes the picture in the form that its ending names."""
    from amc_mobile.report.clock_figure import against_clock, against_clock_png
    from amc_mobile.report.drawing import standalone

    metric = say.ACCURACY_NAMES[compared.metric]
    if out.suffix == ".png":
        write_bytes(out, against_clock_png(compared.points, metric=metric, device=compared.on))
    else:
        write_text(out, standalone(against_clock(compared.points, metric=metric, device=compared.on)))
    note(f"written to {out}")

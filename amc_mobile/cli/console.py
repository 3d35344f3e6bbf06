"""Where words go: data to stdout (with --json one object and nothing else), progress and notes to stderr."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from amc_mobile.report.wording import duration, plain_ascii
from amc_mobile.runs import plain

if TYPE_CHECKING:
    from amc_mobile.device.protocol import Progress

_EVERY_S = 5.0  # without a terminal: at most one line of progress in this time


def note(text: str) -> None:
    """Prints one line for a human on stderr."""
    print(text, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """Prints plain values or dataclasses as one JSON object on stdout."""
    print(json.dumps(plain(value), indent=1, allow_nan=False))


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Prints rows of text on stdout in aligned columns; the first row is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@contextlib.contextmanager
def working() -> Iterator[None]:
    """While it lasts, what libraries print goes to stderr: stdout stays clean for data."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


@contextlib.contextmanager
def progress_line(stage: str) -> Iterator[Progress]:
    """A live line of progress with an estimate of the remaining time; plain lines where stderr is no terminal."""
    if sys.stderr.isatty():
        with _live_line(stage) as progress:
            yield progress
    else:
        yield PlainProgress(stage, note, time.monotonic)


class PlainProgress:
    """Progress as lines of text, at most one every few seconds. The clock is injected.

    Steps that are fewer than before are those of another part of the stage, which has a pace of its own.
    """

    def __init__(self, stage: str, write: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._stage = stage
        self._write = write
        self._clock = clock
        self._first: tuple[float, int] | None = None  # when, and how much was done already (a resumed stage)
        self._done = 0
        self._written = clock()

    def __call__(self, done: int, total: int, what: str) -> None:
        """Takes note of `done` of `total` steps; writes a line if the last one is old enough."""
        now = self._clock()
        if self._first is None or done < self._done:
            self._first = (now, done)
        self._done = done
        if now - self._written < _EVERY_S:
            return
        self._written = now
        start, done_before = self._first
        share = (done - done_before) / max(total - done_before, 1)
        left = f", about {plain_ascii(duration((now - start) * (1 - share) / share))} left" if share > 0 else ""
        self._write(f"{self._stage:>10}  {done}/{total}{left}  {what}".rstrip())


@contextlib.contextmanager
def _live_line(stage: str) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.fields[stage]:>10}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.description}", markup=False),
    )
    # A slow refresh: on a small machine the line itself would disturb the clock.
    with Progress(*columns, console=Console(stderr=True), transient=True, refresh_per_second=2) as bar:
        task = bar.add_task("", total=None, stage=stage)

        def progress(done: int, total: int, what: str) -> None:
            if done < bar.tasks[0].completed:  # another part of the stage, with a pace of its own
                bar.reset(task)
            bar.update(task, completed=done, total=total, description=what)

        yield progress

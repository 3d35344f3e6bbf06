"""A sweep while it runs, on stderr: the jobs at work with their last words, and how much is left."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from amc_mobile.cli.console import note
from amc_mobile.report.wording import duration, plain_ascii
from amc_mobile.runs import append_line, plain
from amc_mobile.sweep.attempt import last_word
from amc_mobile.sweep.estimate import left_s

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

    from amc_mobile.cli.sweeping import Sweep
    from amc_mobile.sweep.board import Board, Ended
    from amc_mobile.sweep.plan import Job, Step

_MOST_ROWS = 16
_WIDEST = 70


class View:
    """Tells each end in a line, keeps a live table where there is a terminal, and writes jobs.jsonl."""

    def __init__(self, sweep: Sweep, board: Board, live: Live | None) -> None:
        self._sweep = sweep
        self._board = board
        self._live = live
        self._begun_s = time.time()
        self._seconds: dict[Step, list[float]] = {}

    def __call__(self, job: Job | None, end: Ended | None) -> None:
        """Takes note of the end of an attempt; without one the table is drawn anew."""
        if job is not None and end is not None:
            self._end(job, end)
        if self._live is not None:
            self._live.update(self._table())

    def _end(self, job: Job, end: Ended) -> None:
        took_s = end.ended_s - end.begun_s
        append_line(self._sweep.jobs_file, {"job": job.name, "device": job.device, **plain(end)})
        state = self._board.states[job.name]
        if state == "done":
            self._seconds.setdefault(job.step, []).append(took_s)
            note(f"     sweep  {job.name}: done in {plain_ascii(duration(took_s))} on {end.host} ({self.summary()})")
        elif state == "failed":
            note(f"     sweep  {job.name}: failed: {self._board.problems[job.name]}")
        else:
            note(f"     sweep  {job.name}: its worker died; it is given out again")

    def summary(self) -> str:
        """How many jobs are done, and about how long the rest takes."""
        board = self._board
        text = f"{board.count('done')} of {len(board.jobs)}"
        busy_s = sum(map(sum, self._seconds.values()))
        rest_s = left_s(board, self._seconds, busy_s / max(time.time() - self._begun_s, 1.0))
        return text if rest_s is None or board.over else f"{text}, about {plain_ascii(duration(rest_s))} left"

    def _table(self) -> RenderableType:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="dim")
        for heading in ("run", "step", "what it says"):
            table.add_column(heading, no_wrap=True)
        given = self._board.given()
        for job in given[:_MOST_ROWS]:
            table.add_row(*(Text(part) for part in (job.folder, job.step, self._word(job))))
        more = f"and {len(given) - _MOST_ROWS} more; " if len(given) > _MOST_ROWS else ""
        failed = f", {count} failed" if (count := self._board.count("failed")) else ""
        return Group(table, Text(f"{more}{self.summary()} jobs done{failed}"))

    def _word(self, job: Job) -> str:
        """The last line of its log, if it was begun since it was given out."""
        log = self._sweep.log(job.folder)
        with contextlib.suppress(OSError):
            if log.stat().st_mtime >= self._begun_s and f"--stage {job.stages[0]} " in _last_order(
                log.read_text(errors="replace")
            ):
                word = last_word(log)
                return "begins" if word.startswith("# ") else word[:_WIDEST]
        return "waits for room" + (f" on {job.device}" if job.device else "")


def _last_order(log: str) -> str:
    """The command that the last attempt in a log was given."""
    return next((line for line in reversed(log.splitlines()) if line.startswith("# ")), "") + " "


@contextlib.contextmanager
def watched(sweep: Sweep, board: Board) -> Iterator[View]:
    """The view of a sweep while it lasts."""
    if not sys.stderr.isatty():
        yield View(sweep, board, None)
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=True), transient=True, refresh_per_second=2) as live:
        yield View(sweep, board, live)

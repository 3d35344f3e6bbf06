"""The loop that drives a sweep: hands out what can be begun, takes what ended, until nothing is left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from amc_mobile.sweep.board import Board, Ended
from amc_mobile.sweep.plan import Job

_ATTEMPTS = 3  # at a job whose worker or node dies
_LOOK_S = 1.0


class Farm(Protocol):
    """Where jobs run. Implemented on Ray (on_ray.py), and in memory for tests."""

    def give(self, job: Job) -> None:
        """Hands a job out; it begins when there is room for it."""

    def take(self, timeout_s: float) -> Mapping[str, Ended]:
        """The jobs that ended since the last call, by name; waits for one at most so long."""

    def absent(self, device: str) -> str:
        """Why no node has this device, in one line; empty if one has it."""

    def drop(self, job: Job) -> None:
        """Takes a job back."""


def drive(board: Board, farm: Farm, watch: Callable[[Job | None, Ended | None], None]) -> None:
    """Does all jobs of the board. `watch` is told of each attempt's end, and with nothing once in a while."""
    attempts: dict[str, int] = {}
    while not board.over:
        for job in board.ready():
            attempts[job.name] = attempts.get(job.name, 0) + 1
            board.give(job)
            farm.give(job)
        ended = farm.take(_LOOK_S)
        for name, end in ended.items():
            job = board.jobs[name]
            _note(board, job, end, attempts[name])
            watch(job, end)
        for job in board.given() if not ended else ():
            if job.device and (reason := farm.absent(job.device)):
                farm.drop(job)
                board.fail(job, reason)
                watch(job, Ended(1, reason))
        watch(None, None)


def _note(board: Board, job: Job, end: Ended, attempt: int) -> None:
    if end.code == 0:
        board.finish(job)
    elif end.lost and attempt < _ATTEMPTS:
        board.states[job.name] = "waiting"
    else:
        times = f" {attempt} times" if end.lost else ""
        board.fail(job, f"its process was ended{times} from outside ({end.word})" if end.lost else end.word)

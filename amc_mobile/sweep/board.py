"""What became of every job so far, and which can be begun: the state of a sweep, without a clock and without Ray."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from amc_mobile.sweep.plan import Job

State = Literal["waiting", "given", "done", "failed", "left out"]


@dataclass(frozen=True, slots=True)
class Ended:
    """How one attempt at a job ended: the exit code of its process (negative: a signal), and its last word.

    Times are seconds since 1970. `lost` says that it was not the job's own doing: its worker or its node died.
    """

    code: int
    word: str
    node: str = ""
    host: str = ""
    begun_s: float = 0.0
    ended_s: float = 0.0

    @property
    def lost(self) -> bool:
        """Whether it may be tried again: the process was killed, or vanished with its node."""
        return self.code < 0


class Board:
    """The jobs of a sweep and their states; `done` names those that an earlier attempt finished."""

    def __init__(self, jobs: Sequence[Job], done: Collection[str] = ()) -> None:
        self.jobs = {job.name: job for job in jobs}
        self.states: dict[str, State] = {name: "done" if name in done else "waiting" for name in self.jobs}
        self.before = frozenset(done)
        self.problems: dict[str, str] = {}  # why a job failed, in one line

    def ready(self) -> list[Job]:
        """The jobs that can be begun now: all that they follow from is done."""
        return [
            job
            for name, job in self.jobs.items()
            if self.states[name] == "waiting" and all(self.states[before] == "done" for before in job.after)
        ]

    def give(self, job: Job) -> None:
        """Notes that the job was handed out."""
        self.states[job.name] = "given"

    def finish(self, job: Job) -> None:
        """Notes that the job is done."""
        self.states[job.name] = "done"

    def fail(self, job: Job, problem: str) -> None:
        """Notes that the job failed; what follows from it is left out, the rest goes on."""
        self.states[job.name] = "failed"
        self.problems[job.name] = problem
        failed = {job.name}
        for name, other in self.jobs.items():  # in an order in which they could be done
            if failed & set(other.after) and self.states[name] != "done":
                failed.add(name)
                self.states[name] = "left out"

    def count(self, *states: State) -> int:
        """How many jobs are in one of these states."""
        return sum(state in states for state in self.states.values())

    def given(self) -> list[Job]:
        """The jobs that are handed out."""
        return [job for name, job in self.jobs.items() if self.states[name] == "given"]

    @property
    def over(self) -> bool:
        """Whether there is nothing left to do or to wait for."""
        return not self.count("waiting", "given")

    def problem_of(self, folder: str) -> str:
        """Why the run in this folder is not complete: its own failure, else that of what it follows from; or empty."""
        for name, job in self.jobs.items():
            if job.folder == folder and self.states[name] in ("failed", "left out"):
                return self._cause(name)
        return ""

    def _cause(self, name: str) -> str:
        while name not in self.problems:
            name = next(before for before in self.jobs[name].after if self.states[before] in ("failed", "left out"))
        return f"{name}: {self.problems[name]}"

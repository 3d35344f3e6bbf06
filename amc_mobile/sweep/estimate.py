"""How long the rest of a sweep takes, judged by the jobs that are done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from amc_mobile.sweep.board import Board
from amc_mobile.sweep.plan import Step


def left_s(board: Board, seconds: Mapping[Step, Sequence[float]], at_once: float) -> float | None:
    """Seconds until the last job ends, if `at_once` of them run together; None before anything is known.

    `seconds` are those of finished jobs. A job takes what others of its step took, else what any job took.
    """
    known = {step: sum(times) / len(times) for step, times in seconds.items() if times}
    if not known:
        return None
    usual = sum(known.values()) / len(known)
    to_do = [job for name, job in board.jobs.items() if board.states[name] in ("waiting", "given")]
    return sum(known.get(job.step, usual) for job in to_do) / max(at_once, 1.0)

"""The loop over a farm in memory: order, failures, workers that die, devices that leave; and the estimate."""

from __future__ import annotations

import pytest

from amc_mobile.sections.budget import BudgetConfig
from amc_mobile.sweep.board import Board, Ended
from amc_mobile.sweep.drive import drive
from amc_mobile.sweep.estimate import left_s
from amc_mobile.sweep.plan import grid, jobs
from amc_mobile.sweep.settings import SweepConfig

STAGES = ("train", "graph", "profile", "calibrate", "search", "settle", "prune", "export", "bench", "report")
DONE = Ended(0, "done")


class MemoryFarm:
    """Ends one job per call, the last given first; `ends` says how, by name and attempt."""

    def __init__(self, ends=None, away=()):
        self.ends = ends or {}
        self.away = set(away)
        self.given: list = []
        self.begun: list[str] = []
        self.dropped: list[str] = []

    def give(self, job):
        self.given.append(job)

    def take(self, timeout_s):
        usable = [job for job in self.given if job.device not in self.away]
        if not usable:
            return {}
        self.given.remove(job := usable[-1])
        self.begun.append(job.name)
        ends = self.ends.get(job.name, [])
        return {job.name: ends.pop(0) if ends else DONE}

    def absent(self, device):
        return f"no node has {device}" if device in self.away else ""

    def drop(self, job):
        self.given.remove(job)
        self.dropped.append(job.name)


def some_jobs(**settings):
    chosen = {"devices": ["a", "b"], "seeds": [0, 1]} | settings
    return jobs(grid(SweepConfig.model_validate(chosen), "host", BudgetConfig(latency=0.5), 0), lambda _: STAGES)


def run(farm, board):
    told = []
    drive(board, farm, lambda job, end: told.append((job.name, end.code)) if job else None)
    return told


def test_everything_is_done_in_an_order_that_works():
    farm, board = MemoryFarm(), Board(some_jobs())
    told = run(farm, board)
    assert board.count("done") == len(board.jobs) == len(told)
    for place, name in enumerate(farm.begun):
        assert set(board.jobs[name].after) <= set(farm.begun[:place])


def test_what_is_done_before_is_not_given_out():
    before = {"shared/original-s0 original", "shared/table-a table", "a-latency0.5-s0 search"}
    farm, board = MemoryFarm(), Board(some_jobs(), before)
    run(farm, board)
    assert not before & set(farm.begun)
    assert len(farm.begun) == len(board.jobs) - len(before)


def test_a_failure_leaves_out_what_follows_and_nothing_else():
    farm = MemoryFarm({"shared/table-b table": [Ended(3, "the phone is hot")]})
    board = Board(some_jobs())
    run(farm, board)
    assert board.problems == {"shared/table-b table": "the phone is hot"}
    assert board.count("left out") == 8  # four jobs of two runs
    assert all(board.states[name] == "done" for name in board.jobs if name.startswith("a-"))
    assert board.problem_of("b-latency0.5-s1") == "shared/table-b table: the phone is hot"
    assert not board.problem_of("a-latency0.5-s1")


def test_a_job_whose_worker_dies_is_given_out_again():
    name = "a-latency0.5-s0 search"
    farm, board = MemoryFarm({name: [Ended(-9, "killed")]}), Board(some_jobs())
    run(farm, board)
    assert board.count("done") == len(board.jobs)
    assert farm.begun.count(name) == 2


def test_a_job_that_always_dies_is_given_up():
    name = "a-latency0.5-s0 search"
    farm, board = MemoryFarm({name: [Ended(-9, "killed")] * 9}), Board(some_jobs())
    run(farm, board)
    assert farm.begun.count(name) == 3
    assert "ended 3 times from outside (killed)" in board.problems[name]


def test_a_job_whose_device_left_does_not_wait_for_ever():
    farm, board = MemoryFarm(away=["b"]), Board(some_jobs())
    run(farm, board)
    assert farm.dropped == ["shared/table-b table"]
    assert board.problems == {"shared/table-b table": "no node has b"}
    assert board.over


@pytest.mark.parametrize(("at_once", "expected_s"), [(1.0, 75.0), (2.0, 37.5), (0.1, 75.0)])
def test_the_estimate_takes_jobs_of_the_same_step_as_a_measure(at_once, expected_s):
    board = Board(some_jobs(devices=["a"], seeds=[0]))
    assert left_s(board, {}, at_once) is None
    for name in ("shared/original-s0 original", "shared/table-a table"):
        board.finish(board.jobs[name])
    # left: a search that takes 10 s, a cut that takes 20 s, and settle and bench, of which nothing is known
    seconds = {"table": [10.0], "search": [5.0, 15.0], "original": [50.0], "cut": [20.0]}
    assert left_s(board, seconds, at_once) == pytest.approx(expected_s)

"""From a grid to jobs: what is shared is made once, and every job comes after what it follows from."""

from __future__ import annotations

import pytest

from amc_mobile.cli.settings import override
from amc_mobile.cli.stage_list import stages
from amc_mobile.config import RunConfig
from amc_mobile.sections.budget import BudgetConfig
from amc_mobile.sweep.plan import Point, grid, jobs, steps
from amc_mobile.sweep.settings import SweepConfig

COUNTED = ("train", "graph", "profile", "calibrate", "search", "prune", "export", "bench", "report")
SETTLED = (*COUNTED[:5], "settle", *COUNTED[5:])
HALF = BudgetConfig(latency=0.5)


def points(**settings):
    return grid(SweepConfig.model_validate(settings), "host", HALF, 0)


def test_what_is_not_varied_is_the_runs_own():
    assert points() == (Point("host", HALF, 0),)
    assert points()[0].name == "host-latency0.5-s0"


def test_a_grid_has_every_combination_once():
    found = points(devices=["a", "b:5555"], budgets=[{"macs": 0.5}, {"macs": 0.7}], seeds=[0, 1], agents=["ddpg"])
    names = [point.name for point in found]
    assert len(set(names)) == len(names) == 8
    assert "b_5555-macs0.5-ddpg-s1" in names
    assert len({point.variant for point in found}) == 4


def test_shared_work_is_done_once():
    found = jobs(points(devices=["a", "b"], budgets=[{"macs": 0.5}, {"macs": 0.7}], seeds=[0, 1]), lambda _: SETTLED)
    by_step = {step: [job for job in found if job.step == step] for step in {job.step for job in found}}
    assert {step: len(each) for step, each in by_step.items()} == {
        "original": 2, "table": 2, "search": 8, "settle": 8, "cut": 8, "bench": 8,
    }  # fmt: skip
    assert [job.device for job in by_step["table"]] == ["a", "b"]


def test_only_what_measures_claims_a_device():
    for job in jobs(points(devices=["a"]), lambda _: SETTLED):
        assert bool(job.device) == (job.step in ("table", "settle", "bench"))


@pytest.mark.parametrize("stages", [SETTLED, COUNTED])
def test_jobs_come_after_what_they_follow_from(stages):
    found = jobs(points(devices=["a", "b"], seeds=[0, 1]), lambda _: stages)
    seen: set[str] = set()
    for job in found:
        assert set(job.after) <= seen
        seen.add(job.name)
    assert any(job.step == "settle" for job in found) == (stages is SETTLED)


def test_a_search_waits_for_its_own_seed_and_its_own_device_only():
    found = {job.name: job for job in jobs(points(devices=["a", "b"], seeds=[0, 1]), lambda _: SETTLED)}
    search = found["b-latency0.5-s1 search"]
    assert set(search.after) == {"shared/original-s1 original", "shared/table-b table"}
    assert search.reuse == ("shared/original-s1",)


def test_a_device_whose_table_is_there_is_not_measured_for_one():
    found = jobs(points(devices=["a", "b"]), lambda _: SETTLED, measured=["b"])
    assert [job.device for job in found if job.step == "table"] == ["a"]
    assert {job.name: job.after for job in found}["b-latency0.5-s0 search"] == ("shared/original-s0 original",)


@pytest.mark.parametrize("changes", [{}, {"budget.macs": 0.5}, {"search.granularity": "weight"}])
def test_the_jobs_of_a_run_are_all_of_its_stages_in_their_order(changes):
    names = [stage.name for stage in stages(override(RunConfig(), changes))]
    done = [stage for those in steps(names).values() for stage in those]
    assert done == names

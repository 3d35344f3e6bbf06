from __future__ import annotations

from dataclasses import replace

from amc_mobile.device.rounds import in_rounds
from amc_mobile.measurements import Conditions, NodeTime, Start, TimingJob, TimingProtocol
from android_bench.schedule import Reading, Schedule, Visit

JOBS = [TimingJob("a", b"a"), TimingJob("b", b"b", profile=True), TimingJob("c", b"c")]
PROTOCOL = TimingProtocol(rounds=3, seed=7)
NOW = Conditions("2026-01-01T00:00:00+00:00")


def reading(value: float) -> Reading:
    return Reading((value,), (2 * value,), Start(1.0, 2.0), NOW, (NodeTime("n", "Conv", ("t",), (value,)),))


def test_the_order_is_that_of_every_other_device():
    order = list(in_rounds(JOBS, PROTOCOL, None))
    schedule = Schedule(JOBS, PROTOCOL)
    timed = []
    while visits := schedule.next_round():
        timed += [visit.job for visit in visits if visit.kind == "time"]
        for visit in visits:
            schedule.record(visit, reading(1.0))
    assert timed == order
    assert len(schedule) == 3 * 4  # b is profiled beside


def test_nodes_are_timed_in_as_many_rounds_as_are_asked_for():
    schedule = Schedule(JOBS, replace(PROTOCOL, profile_rounds=1))
    assert len(schedule) == 3 * 3 + 1
    while visits := schedule.next_round():
        assert any(visit.kind == "profile" for visit in visits) == (visits[0].round == 0)
        for visit in visits:
            schedule.record(visit, reading(10.0 * visit.round + visit.job))
    assert schedule.measurements(NOW)[1].nodes[0].round_us == (1.0,)


def test_what_was_recorded_is_not_asked_for_again():
    schedule = Schedule(JOBS, PROTOCOL)
    first = schedule.next_round()
    schedule.record(first[0], reading(1.0))
    assert schedule.next_round() == first[1:]
    assert schedule.done == 1


def test_a_failed_job_is_left_out_and_the_others_are_measured():
    schedule = Schedule(JOBS, PROTOCOL)
    schedule.fail(0, "no network")
    while visits := schedule.next_round():
        assert all(visit.job != 0 for visit in visits)
        for visit in visits:
            schedule.record(visit, reading(10.0 * visit.round + visit.job))
    found = schedule.measurements(NOW)
    assert set(found) == {1, 2}
    assert found[2].values_us == ((2.0,), (12.0,), (22.0,))
    assert found[2].warmups_us[1] == (24.0,)
    assert found[1].nodes == (NodeTime("n", "Conv", ("t",), (1.0, 11.0, 21.0)),)
    assert found[2].nodes == ()
    assert len(found[1].starts) == len(found[1].states) == 3


def test_one_crash_may_be_an_accident_two_are_the_models_fault():
    schedule = Schedule(JOBS, PROTOCOL)
    schedule.crashed(1, "segfault")
    assert not schedule.failures
    schedule.crashed(1, "segfault")
    assert schedule.failures == {1: "segfault"}


def test_a_reading_made_again_replaces_the_first():
    schedule = Schedule([JOBS[0]], TimingProtocol(rounds=1))
    visit = Visit(0, 0, "time")
    schedule.record(visit, reading(1.0))
    schedule.record(visit, reading(2.0))
    assert schedule.measurements(NOW)[0].values_us == ((2.0,),)


def test_nodes_are_counted_once_beside_the_times():
    schedule = Schedule(JOBS, PROTOCOL, counted=frozenset({0, 1}))
    visits = []
    while left := schedule.next_round():
        visits += left
        for visit in left:
            schedule.record(visit, reading(1.0))
    assert [visit for visit in visits if visit.kind == "count"] == [Visit(0, 0, "count")]  # b's are told by its profile
    assert schedule.measurements(NOW)[0].nodes == ()

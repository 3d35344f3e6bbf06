from __future__ import annotations

from typing import Any

from amc_mobile.measurements import TimingJob, TimingProtocol
from android_bench.runner.manifest import Manifest, Step
from android_bench.schedule import Reading, Schedule
from android_bench.timing import Memory, Timing


class Remembering:
    """Takes the manifest of a start, and starts nothing."""

    manifest: Manifest
    silent_s: float

    def start(self, manifest: Manifest, _limit_s: float, silent_s: float, _told: Any) -> None:
        self.manifest, self.silent_s = manifest, silent_s


def test_the_runner_is_asked_for_what_the_protocol_says():
    protocol = TimingProtocol(rounds=7, warmups=5, runs=10, min_time_s=0.1, profile_rounds=1)
    schedule = Schedule([TimingJob("a", b"a", profile=True)], protocol)
    runner = Remembering()
    timing = Timing(Manifest("lib.so", (), ()), schedule, runner, ["a.onnx"], Memory(start_s=1.0, step_s=2.0))  # type: ignore[arg-type]
    visits = schedule.next_round()
    timing.start(visits, lambda _what: None)
    time = Step(0, "time", 5, 10, 0.1, 0.4, fewest_runs=3)
    assert runner.manifest.steps == (time, Step(0, "profile", 5, 30, 0.0, 2.0, fewest_runs=15, optimised=True))
    assert runner.silent_s >= 2.0 + 0.4 + 0.4  # warm-ups and runs may take so long
    for visit in visits:
        schedule.record(visit, Reading((1.0,), (1.0,)))
    timing.start(schedule.next_round(), lambda _what: None)
    assert runner.manifest.steps == (time,)

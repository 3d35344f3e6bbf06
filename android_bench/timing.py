"""One call of `time_models` on a phone: from visits that are left to a manifest, from what comes back to readings."""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # comes with onnx

from amc_mobile.device.node_times import Node, node_times, original_outputs, parse_profile
from amc_mobile.device.rounds import Amount, profile_runs, timed_runs
from amc_mobile.errors import DeviceError
from amc_mobile.measurements import NodeTime, Start, TimingJob
from android_bench import sampling
from android_bench.adb import ConnectionLost, Refused, printable
from android_bench.runner.events import Begun, Event, Timed
from android_bench.runner.manifest import Kind, Manifest, Model, Step
from android_bench.running import Outcome, RunnerOnPhone
from android_bench.schedule import Reading, Schedule, Visit


@dataclass
class Memory:
    """What a device learns from call to call."""

    start_s: float  # that the runner may take to begin
    step_s: float  # that one session may take, beside its least time
    cores: int = 0  # of the phone
    throttled: int = 0  # sessions that were dropped because the phone held its clock down
    nodes: dict[str, Mapping[str, Node]] = field(default_factory=dict)  # the optimised graph of each network profiled
    granted: tuple[int, ...] = ()  # cores
    counted: set[str] = field(default_factory=set)  # networks whose nodes were counted by provider
    on_providers: Mapping[str, int] = field(default_factory=dict)  # nodes of the network profiled last
    governor: str | None = None


class Timing:
    """Starts the runner for visits of a schedule, and writes down there what came of it.

    `setup` is the manifest without models and steps, `paths` are the models' places on the phone, by job.
    """

    def __init__(
        self, setup: Manifest, schedule: Schedule, runner: RunnerOnPhone, paths: Sequence[str], memory: Memory
    ) -> None:
        self._setup = setup
        self._schedule = schedule
        self._runner = runner
        self._paths = paths
        self._memory = memory
        self._throttle = sampling.Throttle()

    def start(self, visits: Sequence[Visit], told: Callable[[str], None]) -> Outcome:
        """One start of the runner. Raises: DeviceError."""
        used = sorted({visit.job for visit in visits})
        manifest = replace(
            self._setup,
            models=tuple(Model(self._paths[job]) for job in used),
            steps=tuple(self._step(visit, used.index(visit.job)) for visit in visits),
        )

        def heard(event: Event) -> None:
            if isinstance(event, Begun):
                told(self._schedule.jobs[visits[event.step].job].label)

        each_s = self._memory.step_s + 8 * self._schedule.protocol.min_time_s
        silent_s = max(self._memory.start_s, each_s)
        return self._runner.start(manifest, silent_s + each_s * len(visits), silent_s, heard)

    def keep(self, visits: Sequence[Visit], outcome: Outcome, spare: int, notice: Callable[[str], None]) -> int:
        """Writes down what a start gave; answers how many sessions are dropped because the phone held its clock down.

        At most `spare` of them are, each with a `notice`: what is throttled even then is kept, and its state tells.
        """
        dropped, previous = 0, None
        for timed in outcome.timed:
            counters = sampling.ticks(timed.samples, self._memory.cores)
            others = sampling.load(previous, counters)
            previous = counters
            busy_us = timed.load_us + sum(timed.warmups_us) + sum(timed.values_us)
            held_down = self._throttle.held_down(timed.samples, busy_us / 1e6)
            if held_down and dropped < spare:
                dropped += 1
                notice(f"timed again, {held_down}: {self._schedule.jobs[visits[timed.step].job].label}")
            else:
                self._record(visits[timed.step], timed, others)
        for failed in outcome.failed:
            if failed.step is not None:
                self._schedule.fail(visits[failed.step].job, printable(failed.message, 200))
        if outcome.end == "crashed" and outcome.begun is not None:
            self._schedule.crashed(visits[outcome.begun].job, outcome.reason)
        if outcome.hello is not None:
            self._memory.granted = outcome.hello.cores
        self._memory.throttled += dropped
        return dropped

    def _step(self, visit: Visit, model: int) -> Step:
        protocol = self._schedule.protocol
        if visit.kind == "count":
            return Step(model, "profile", warmups=0, runs=1)
        if visit.kind == "profile":
            first = _key(self._schedule.jobs[visit.job]) not in self._memory.nodes
            return _step(model, "profile", protocol.profile_warmups, profile_runs(protocol), optimised=first)
        return _step(model, "time", protocol.warmups, timed_runs(protocol), cold=protocol.cold)

    def _record(self, visit: Visit, timed: Timed, others: float | None) -> None:
        state = sampling.conditions(timed.samples, self._memory.governor, others)
        if visit.kind == "time":
            if not statistics.median(timed.values_us or (0.0,)) > 0:
                raise DeviceError("the device tells no times of a run, or its clock stands still; type `amc selfcheck`")
            start = Start(timed.load_us, timed.first_run_us, timed.peak_bytes)
            self._schedule.record(visit, Reading(timed.values_us, timed.warmups_us, start, state))
            return
        try:
            nodes = self._node_times(visit, timed) if visit.kind == "profile" else ()
        except (ConnectionLost, Refused):
            return  # it is made again, with the rest of the round
        self._memory.counted.add(_key(self._schedule.jobs[visit.job]))
        self._memory.on_providers = timed.nodes_per_provider or self._memory.on_providers
        self._schedule.record(visit, Reading(nodes=nodes, state=state))

    def _node_times(self, visit: Visit, timed: Timed) -> tuple[NodeTime, ...]:
        if timed.profile is None:
            raise DeviceError("the runner gave no profile of the nodes; type `amc selfcheck`")
        job = self._schedule.jobs[visit.job]
        key = _key(job)
        if key not in self._memory.nodes and timed.optimised is not None:
            optimised = _network(self._runner.pull(timed.optimised))
            self._memory.nodes[key] = original_outputs(onnx.load_from_string(job.model), optimised)
        text = self._runner.pull(timed.profile).decode("utf-8", "replace")
        medians = parse_profile(text, len(timed.warmups_us))
        return node_times(medians, self._memory.nodes.get(key, {}))


def _step(model: int, kind: Kind, warmups: int, amount: Amount, *, cold: bool = False, optimised: bool = False) -> Step:
    return Step(
        model,
        kind,
        warmups,
        amount.runs,
        min_time_s=amount.min_time_s,
        most_time_s=amount.most_time_s,
        fewest_runs=amount.fewest,
        cold=cold,
        optimised=optimised,
    )


def uncounted(jobs: Sequence[TimingJob], memory: Memory) -> frozenset[int]:
    """The jobs whose nodes were not counted by provider yet."""
    return frozenset(index for index, job in enumerate(jobs) if _key(job) not in memory.counted)


def _network(data: bytes) -> onnx.ModelProto:
    """What the device says that it runs. Raises: DeviceError for anything that is no network."""
    try:
        return onnx.load_from_string(data)
    except DecodeError as error:
        raise DeviceError("the device answers garbage in the place of a network; type `amc selfcheck`") from error


def _key(job: TimingJob) -> str:
    return hashlib.sha256(job.model).hexdigest()

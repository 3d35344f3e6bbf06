"""What every device in this process does alike: jobs in an order of their own each round, and what they gave so far."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from amc_mobile.device.machine import LoadMeter
from amc_mobile.device.protocol import ModelsFailed, Progress
from amc_mobile.errors import DeviceError
from amc_mobile.measurements import Conditions, Measurement, NodeTime, Start, TimingJob, TimingProtocol

_FEWEST = 15  # runs that a slow network has in any case, of all rounds together,
_FEWEST_EACH = 3  # and of each
_FEWEST_WARMUPS = 2
_FEWEST_PROFILED = 15  # of each profile
_LONG = 4.0  # times the least time: runs that take longer are fewer
_PROFILE_S = 2.0  # which the runs of a profile may take in any case: they are fewer than the others


@dataclass(frozen=True, slots=True)
class Amount:
    """How often something is run: at least `runs` times and for `min_time_s`.

    Once it ran `fewest` times, it is not begun again after `most_time_s`, whatever the other two say.
    """

    runs: int
    min_time_s: float = 0.0
    most_time_s: float = math.inf
    fewest: int = 1

    def further(self) -> Amount:
        """After a first run."""
        return replace(self, runs=self.runs - 1, fewest=self.fewest - 1)


def timed_runs(protocol: TimingProtocol) -> Amount:
    """The runs that count, of one job in one round."""
    fewest = max(_FEWEST_EACH, math.ceil(_FEWEST / protocol.rounds))
    return Amount(protocol.runs, protocol.min_time_s, _most_time_s(protocol), fewest)


def warmup_runs(protocol: TimingProtocol) -> Amount:
    """The runs before those that count."""
    return Amount(protocol.warmups, 0.0, _most_time_s(protocol), _FEWEST_WARMUPS)


def profile_runs(protocol: TimingProtocol) -> Amount:
    """The runs of a profile that count."""
    return Amount(protocol.profile_runs, 0.0, max(_most_time_s(protocol), _PROFILE_S), _FEWEST_PROFILED)


def profile_warmups(protocol: TimingProtocol) -> Amount:
    """The runs of a profile before those that count."""
    return replace(profile_runs(protocol), runs=protocol.profile_warmups, fewest=_FEWEST_WARMUPS)


def _most_time_s(protocol: TimingProtocol) -> float:
    """Without a least time: any."""
    return _LONG * protocol.min_time_s or math.inf


def profiled(job: TimingJob, round_number: int, protocol: TimingProtocol) -> bool:
    """Whether the job's nodes are timed in this round, too."""
    return job.profile and (protocol.profile_rounds is None or round_number < protocol.profile_rounds)


class Record:
    """What one job has given so far, round by round."""

    def __init__(self) -> None:
        self.values_us: list[tuple[float, ...]] = []
        self.warmups_us: list[tuple[float, ...]] = []
        self.starts: list[Start] = []
        self.states: list[Conditions] = []
        self.nodes: dict[str, NodeTime] = {}

    @property
    def rounds(self) -> int:
        """How many have been timed."""
        return len(self.values_us)

    def add_nodes(self, nodes: Sequence[NodeTime]) -> None:
        """Appends the times of one more round."""
        for node in nodes:
            before = self.nodes[node.name].round_us if node.name in self.nodes else ()
            self.nodes[node.name] = NodeTime(node.name, node.op_type, node.outputs, (*before, *node.round_us))

    def measurement(self, label: str, conditions: Conditions) -> Measurement:
        """All rounds together."""
        return Measurement(
            label,
            tuple(self.values_us),
            tuple(self.warmups_us),
            tuple(self.nodes.values()),
            conditions,
            tuple(self.starts),
            tuple(self.states),
        )


def in_rounds(jobs: Sequence[TimingJob], protocol: TimingProtocol, progress: Progress | None) -> Iterator[int]:
    """The places of the jobs, all of them in every round, shuffled by the protocol's seed. Tells how far it is."""
    rng = np.random.default_rng(protocol.seed)
    total = protocol.rounds * len(jobs)
    for round_number in range(protocol.rounds):
        for place, index in enumerate(rng.permutation(len(jobs))):
            if progress is not None:
                progress(round_number * len(jobs) + place, total, jobs[index].label)
            yield int(index)
    if progress is not None:
        progress(total, total, "timed")


def timed(
    jobs: Sequence[TimingJob],
    protocol: TimingProtocol,
    progress: Progress | None,
    conditions: Conditions,
    measure: Callable[[TimingJob, Record], None],
    helpers_s: Callable[[], float] | None = None,
) -> list[Measurement]:
    """Measures the jobs round by round, and answers in their order, with the load of all that time.

    `helpers_s` tells the processor time of processes that help, which is not load.
    Raises: ModelsFailed, after all others are measured, for jobs of which `measure` raised a DeviceError.
    """
    records, meter = [Record() for _ in jobs], LoadMeter(helpers_s)
    failed: dict[int, DeviceError] = {}
    for index in in_rounds(jobs, protocol, progress):
        if index in failed:
            continue
        try:
            measure(jobs[index], records[index])
        except DeviceError as error:
            failed[index] = error
            if len(failed) == len(jobs):
                break
    conditions = replace(conditions, load=meter.foreign())
    results = {index: records[index].measurement(job.label, conditions) for index, job in enumerate(jobs)}
    if failed:
        reasons = {jobs[index].label: str(error) for index, error in failed.items()}
        measured = {jobs[index].label: result for index, result in results.items() if index not in failed}
        first = next(iter(failed.values()))
        raise ModelsFailed(str(first), reasons, measured) from first
    return list(results.values())


def repeated(once: Callable[[], float], amount: Amount) -> tuple[float, ...]:
    """What `once` says, so many times. No garbage is collected meanwhile."""
    values: list[float] = []
    collecting = gc.isenabled()
    gc.disable()
    try:
        begin = time.perf_counter()
        while len(values) < amount.runs or time.perf_counter() - begin < amount.min_time_s:
            if len(values) >= amount.fewest and time.perf_counter() - begin >= amount.most_time_s:
                break
            values.append(once())
    finally:
        if collecting:
            gc.enable()
    return tuple(values)

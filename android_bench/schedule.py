"""What is to be timed on a phone, what has been, and what is still to do, however often the phone went away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from amc_mobile.device.rounds import in_rounds, profiled
from amc_mobile.measurements import Conditions, Measurement, NodeTime, Start, TimingJob, TimingProtocol

_CRASHES = 2  # a model that took the runtime down so often is to blame


@dataclass(frozen=True, slots=True)
class Visit:
    """One session of one job in one round: end-to-end times, the times of its nodes, or which provider runs each."""

    job: int
    round: int
    kind: Literal["time", "profile", "count"]


@dataclass(frozen=True, slots=True)
class Reading:
    """What one visit gave: `nodes` of a profile visit, the rest of a timed one."""

    values_us: tuple[float, ...] = ()
    warmups_us: tuple[float, ...] = ()
    start: Start | None = None
    state: Conditions | None = None
    nodes: tuple[NodeTime, ...] = ()


@dataclass
class Schedule:
    """The visits of a call, in the order in which every device does them, and the readings so far.

    `counted` are jobs whose nodes are counted by provider, once, beside being timed.
    """

    jobs: Sequence[TimingJob]
    protocol: TimingProtocol
    counted: frozenset[int] = frozenset()
    readings: dict[Visit, Reading] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)  # by job, why it cannot be timed

    def __post_init__(self) -> None:
        seen: Counter[int] = Counter()
        self._visits: list[Visit] = []
        self._crashes: Counter[int] = Counter()
        for job in in_rounds(self.jobs, self.protocol, None):
            self._visits.append(Visit(job, seen[job], "time"))
            if profiled(self.jobs[job], seen[job], self.protocol):
                self._visits.append(Visit(job, seen[job], "profile"))
            elif job in self.counted and not seen[job]:
                self._visits.append(Visit(job, 0, "count"))
            seen[job] += 1

    def __len__(self) -> int:
        return len(self._visits)

    @property
    def done(self) -> int:
        """Visits that need not be made any more."""
        return len(self) - sum(len(self._left(number)) for number in range(self.protocol.rounds))

    def next_round(self) -> list[Visit]:
        """The visits that are left of the first round that is not complete; nothing when all are."""
        return next((left for number in range(self.protocol.rounds) if (left := self._left(number))), [])

    def record(self, visit: Visit, reading: Reading) -> None:
        """Keeps what a visit gave, in the place of what an earlier one gave."""
        self.readings[visit] = reading

    def fail(self, job: int, reason: str) -> None:
        """Gives a job up. The first reason stays: later ones only say that there was one."""
        self.failures.setdefault(job, reason)

    def crashed(self, job: int, reason: str) -> None:
        """Gives a job up if it took the runtime down before."""
        self._crashes[job] += 1
        if self._crashes[job] >= _CRASHES:
            self.fail(job, reason)

    def measurements(self, conditions: Conditions) -> dict[int, Measurement]:
        """By job, all rounds together, of those that did not fail."""
        jobs = [index for index in range(len(self.jobs)) if index not in self.failures]
        return {index: self._measurement(index, conditions) for index in jobs}

    def _left(self, number: int) -> list[Visit]:
        return [
            visit
            for visit in self._visits
            if visit.round == number and visit.job not in self.failures and visit not in self.readings
        ]

    def _measurement(self, job: int, conditions: Conditions) -> Measurement:
        timed = [self.readings[Visit(job, number, "time")] for number in range(self.protocol.rounds)]
        rounds = [number for number in range(self.protocol.rounds) if profiled(self.jobs[job], number, self.protocol)]
        nodes = [self.readings[Visit(job, number, "profile")].nodes for number in rounds]
        return Measurement(
            self.jobs[job].label,
            values_us=tuple(reading.values_us for reading in timed),
            warmups_us=tuple(reading.warmups_us for reading in timed),
            nodes=_joined(nodes),
            conditions=conditions,
            starts=tuple(reading.start for reading in timed if reading.start is not None),
            states=tuple(reading.state for reading in timed if reading.state is not None),
        )


def _joined(rounds: Sequence[Sequence[NodeTime]]) -> tuple[NodeTime, ...]:
    """The nodes of all rounds: those of the first, with a time for each round that knows them."""
    times: dict[str, list[float]] = {}
    for nodes in rounds:
        for node in nodes:
            times.setdefault(node.name, []).extend(node.round_us)
    firsts = {node.name: node for nodes in reversed(rounds) for node in nodes}
    return tuple(NodeTime(name, firsts[name].op_type, firsts[name].outputs, tuple(us)) for name, us in times.items())

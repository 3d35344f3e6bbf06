"""A measuring campaign: which networks are timed in which round, what has been timed, and what is still to do.

A round times every network once, in chunks of a few networks with the full network, the sentinel, in each. The sentinel
tells how the device drifts; a round that drifted too far is measured again. Everything here follows from the plan and
the chunks measured so far, so that a campaign that was killed goes on where it stopped.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from amc_mobile.device.stability import noise_floor
from amc_mobile.profile.mapping import RowKey
from amc_mobile.types import Conditions, Policy

SENTINEL = "full"
CHUNK = 4  # networks between two readings of the sentinel
DRIFT = 0.03  # a round further off than this is measured again,
LOAD = 0.5  # and one in which other programs kept so many cores busier than in the quietest round
_EXTRA_ROUNDS = 2  # at most so many


@dataclass(frozen=True, slots=True)
class Sample:
    """One network in one chunk: raw runs and warm-ups, and the median time of each row (none for further sentinels)."""

    label: str
    values_us: tuple[float, ...]
    warmups_us: tuple[float, ...]
    rows_us: Mapping[RowKey, float]

    def median_us(self) -> float:
        """Median of the runs, µs."""
        return statistics.median(self.values_us)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some networks and the sentinel, timed together."""

    round: int
    index: int
    conditions: Conditions
    samples: tuple[Sample, ...]

    def sentinel_us(self) -> float:
        """The full network's time in this chunk."""
        return next(sample.median_us() for sample in self.samples if sample.label == SENTINEL)


@dataclass(frozen=True, slots=True)
class Plan:
    """The networks by label ("full" first), how often, in which random order."""

    policies: Mapping[str, Policy]
    rounds: int
    seed: int

    def chunks(self, round_number: int) -> list[tuple[str, ...]]:
        """Labels of a round's chunks, shuffled anew each round; the sentinel is added to each."""
        rng = np.random.default_rng([self.seed, round_number])
        labels = [label for label in self.policies if label != SENTINEL]
        shuffled = [labels[place] for place in rng.permutation(len(labels))]
        starts = range(0, len(shuffled), CHUNK)
        return [(SENTINEL, *shuffled[start : start + CHUNK]) for start in starts] or [(SENTINEL,)]

    def next_chunk(self, done: Sequence[Chunk]) -> tuple[int, int] | None:
        """(round, chunk) to be measured next; None when the campaign is complete."""
        size = len(self.chunks(0))
        if len(done) % size:
            return len(done) // size, len(done) % size
        finished = len(done) // size
        if finished < self.rounds:
            return finished, 0
        steady = sum(not found.reason for found in examine(done).values())
        if steady < self.rounds and finished < self.rounds + _EXTRA_ROUNDS and self.rounds > 1:
            return finished, 0
        return None

    def steps(self) -> int:
        """Networks timed if no round is repeated, sentinels included."""
        return self.rounds * sum(map(len, self.chunks(0)))


@dataclass(frozen=True, slots=True)
class RoundState:
    """How steady one round was. `reason` is empty, or says what disturbed it."""

    drift: float  # how far its sentinel is from the quickest round's, or scatters within it: the larger one
    load: float | None  # cores kept busy by other programs, the mean over its chunks
    reason: str


def examine(chunks: Sequence[Chunk]) -> dict[int, RoundState]:
    """The state of each round, beside the quickest and the quietest one."""
    by_round: dict[int, list[Chunk]] = {}
    for chunk in chunks:
        by_round.setdefault(chunk.round, []).append(chunk)
    levels = {number: statistics.median(chunk.sentinel_us() for chunk in part) for number, part in by_round.items()}
    loads = {number: _load(part) for number, part in by_round.items()}
    best, quietest = min(levels.values()), min((load for load in loads.values() if load is not None), default=0.0)
    states = {}
    for number, part in by_round.items():
        scatter = statistics.median(abs(chunk.sentinel_us() / levels[number] - 1.0) for chunk in part)
        drift, load = max(levels[number] / best - 1.0, scatter), loads[number]
        reasons = [f"the full network's time was off by {drift:.1%}"] if drift > DRIFT else []
        if load is not None and load - quietest > LOAD:
            reasons.append(f"other programs kept {load:.1f} cores busy")
        states[number] = RoundState(drift, load, " and ".join(reasons))
    return states


def _load(chunks: Sequence[Chunk]) -> float | None:
    loads = [chunk.conditions.load for chunk in chunks if chunk.conditions.load is not None]
    return statistics.fmean(loads) if loads else None


@dataclass(frozen=True, slots=True)
class Summary:
    """The campaign as one number for each network and row, with what was done to the raw values."""

    rounds: tuple[int, ...]  # those that count: the steadiest
    states: Mapping[int, RoundState]
    corrected: bool  # whether times were divided by the sentinel's drift
    noise_floor: float
    clock_us: Mapping[str, float]
    rows_us: Mapping[str, Mapping[RowKey, float]]


def summarise(plan: Plan, chunks: Sequence[Chunk]) -> Summary:
    """Medians over the steadiest rounds, corrected by the sentinel where that makes networks agree with themselves."""
    states = examine(chunks)
    ranked = sorted(states, key=lambda number: (bool(states[number].reason), states[number].drift, number))
    rounds = tuple(sorted(ranked[: plan.rounds]))
    used = [chunk for chunk in chunks if chunk.round in rounds]
    reference = statistics.median(chunk.sentinel_us() for chunk in used)
    factors = [chunk.sentinel_us() / reference for chunk in used]
    plain_times = _times(used, [1.0] * len(used))
    corrected_times = _times(used, factors)
    noise, corrected_noise = _noise(plain_times), _noise(corrected_times)
    corrected = corrected_noise < noise
    times = corrected_times if corrected else plain_times
    clock = {label: statistics.median(times[label]) for label in plan.policies}
    clock[SENTINEL] = reference
    anywhere = _rows(chunks, [1.0] * len(chunks))  # what is timed once only may lie in a round that was put aside
    return Summary(
        rounds=rounds,
        states=states,
        corrected=corrected,
        noise_floor=corrected_noise if corrected else noise,
        clock_us=clock,
        rows_us=anywhere | _rows(used, factors if corrected else [1.0] * len(used)),
    )


def _times(chunks: Sequence[Chunk], factors: Sequence[float]) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {}
    for chunk, factor in zip(chunks, factors, strict=True):
        for sample in chunk.samples:
            times.setdefault(sample.label, []).append(sample.median_us() / factor)
    return times


def _noise(times: Mapping[str, Sequence[float]]) -> float:
    """How far the clock is from itself, over the networks measured more than once; if none was, the sentinel."""
    repeated = [values for label, values in times.items() if len(values) > 1 and label != SENTINEL]
    return statistics.fmean(noise_floor(values) for values in repeated or [times[SENTINEL]])


def _rows(chunks: Sequence[Chunk], factors: Sequence[float]) -> dict[str, dict[RowKey, float]]:
    values: dict[str, dict[RowKey, list[float]]] = {}
    for chunk, factor in zip(chunks, factors, strict=True):
        for sample in chunk.samples:
            for key, time in sample.rows_us.items():
                values.setdefault(sample.label, {}).setdefault(key, []).append(time / factor)
    return {label: {key: statistics.median(times) for key, times in rows.items()} for label, rows in values.items()}

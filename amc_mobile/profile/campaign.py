"""A measuring campaign: which networks are timed in which round, what has been timed, and what is still to do.

A round has every network in one chunk: a few networks and the full network, the sentinel, which take turns. Shared
devices change by a third within seconds, and what disturbs a network only slows it down: its time is the lower quartile
of its turns. The sentinel, timed between them, tells how the device drifts. Devices have moods: two threads on one
physical core or on two, a thermal limit, neighbours in the cloud; they last for minutes and slow one network more than
another. So all chunks should be of one mood, the one that most of them were measured in; a chunk of another is measured
again. Everything here follows from the plan and the chunks measured so far, so that a campaign that was killed goes on
where it stopped.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from amc_mobile.device.stability import noise_floor
from amc_mobile.measurements import Conditions, lower_quartile
from amc_mobile.profile.mapping import RowKey
from amc_mobile.types import Policy

SENTINEL = "full"
CHUNK = 4  # networks that take turns with the sentinel
DRIFT = 0.03  # a chunk further off than this is measured again,
LOAD = 0.5  # and one in which other programs kept so many cores busier than in the quietest chunk
_AGAIN = 1.0  # at most so many chunks are measured again, as a share of the plan's


@dataclass(frozen=True, slots=True)
class Sample:
    """One network in one chunk: raw runs and warm-ups of each turn, and the time of each row.

    Rows are times of nodes from the first turn (of the sentinel in the first chunk of a round only), or of layers alone
    in the first chunk that has the network.
    """

    label: str
    values_us: tuple[tuple[float, ...], ...]
    warmups_us: tuple[tuple[float, ...], ...]
    rows_us: Mapping[RowKey, float]

    def time_us(self) -> float:
        """The lower quartile of the turns' medians, µs."""
        return lower_quartile([*map(statistics.median, self.values_us)])


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some networks and the sentinel, timed together. A chunk that is measured again has the same round and index."""

    round: int
    index: int
    conditions: Conditions
    samples: tuple[Sample, ...]

    def sentinel_us(self) -> float:
        """The full network's time in this chunk."""
        return next(sample.time_us() for sample in self.samples if sample.label == SENTINEL)

    @property
    def slot(self) -> tuple[int, int]:
        """Its place in the plan."""
        return self.round, self.index


@dataclass(frozen=True, slots=True)
class Plan:
    """The networks by label ("full" first), how often, in which random order.

    `reference_us`: the full network's time in the mood that is wanted, where there is a table of that mood.
    """

    policies: Mapping[str, Policy]
    rounds: int
    seed: int
    reference_us: float | None = None

    def chunks(self, round_number: int) -> list[tuple[str, ...]]:
        """Labels of a round's chunks, shuffled anew each round; the sentinel is added to each."""
        rng = np.random.default_rng([self.seed, round_number])
        labels = [label for label in self.policies if label != SENTINEL]
        shuffled = [labels[place] for place in rng.permutation(len(labels))]
        starts = range(0, len(shuffled), CHUNK)
        return [(SENTINEL, *shuffled[start : start + CHUNK]) for start in starts] or [(SENTINEL,)]

    def next_chunk(self, done: Sequence[Chunk]) -> tuple[int, int] | None:
        """(round, chunk) to be measured next; None when the campaign is complete."""
        slots = [(number, index) for number in range(self.rounds) for index in range(len(self.chunks(number)))]
        tried = Counter(chunk.slot for chunk in done)
        if fresh := [slot for slot in slots if slot not in tried]:
            return fresh[0]
        if self.rounds == 1 or len(done) >= (1 + _AGAIN) * self.size:
            return None
        steady = {chunk.slot for chunk, state in zip(done, examine(self, done), strict=True) if not state.reason}
        return min((slot for slot in slots if slot not in steady), key=lambda slot: (tried[slot], slot), default=None)

    @property
    def size(self) -> int:
        """Chunks, if none is measured again."""
        return self.rounds * len(self.chunks(0))

    def steps(self) -> int:
        """Networks timed if no round is repeated, sentinels included."""
        return self.rounds * sum(map(len, self.chunks(0)))


@dataclass(frozen=True, slots=True)
class ChunkState:
    """How steady one chunk was. `reason` is empty, or says what disturbed it."""

    drift: float  # its sentinel beside the campaign's level, - 1
    load: float | None  # cores kept busy by other programs meanwhile
    reason: str


def examine(plan: Plan, chunks: Sequence[Chunk]) -> list[ChunkState]:
    """The state of each chunk, beside the mood of most and the quietest one."""
    level = level_us(plan, chunks)
    quietest = min((chunk.conditions.load for chunk in chunks if chunk.conditions.load is not None), default=0.0)
    states = []
    for chunk in chunks:
        drift, load = chunk.sentinel_us() / level - 1.0, chunk.conditions.load
        reasons = [f"the full network's time was off by {drift:+.1%}"] if abs(drift) > DRIFT else []
        if load is not None and load - quietest > LOAD:
            reasons.append(f"other programs kept {load:.1f} cores busy")
        states.append(ChunkState(drift, load, " and ".join(reasons)))
    return states


def level_us(plan: Plan, chunks: Sequence[Chunk]) -> float:
    """The full network's time in the mood of most of the plan's chunks (of equals the quickest), µs.

    With a reference it is the mood of the reference, if any chunk is of it.
    """
    times = [chunk.sentinel_us() for chunk in chunks]

    def alike(level: float) -> list[int]:
        return [place for place, time in enumerate(times) if abs(time / level - 1.0) <= DRIFT]

    if plan.reference_us is not None and alike(plan.reference_us):
        return plan.reference_us
    best = max(times, key=lambda level: (len({chunks[place].slot for place in alike(level)}), -level))
    return statistics.median(times[place] for place in alike(best))


@dataclass(frozen=True, slots=True)
class Summary:
    """The campaign as one number for each network and row, with what was done to the raw values."""

    states: tuple[ChunkState, ...]
    used: tuple[int, ...]  # places of the chunks that count
    corrected: bool  # whether times were divided by the sentinel's drift
    noise_floor: float
    clock_us: Mapping[str, float]
    rows_us: Mapping[str, Mapping[RowKey, float]]


def summarise(plan: Plan, chunks: Sequence[Chunk]) -> Summary:
    """Medians over the steady chunks, corrected by the sentinel where that makes networks agree with themselves.

    A network that was never timed in a steady chunk counts as it was in the one nearest to the level, corrected.
    """
    states = examine(plan, chunks)
    places = _used(chunks, states)
    used = [chunks[place] for place in places]
    unsteady = [bool(states[place].reason) for place in places]
    steady = [chunk for chunk, off in zip(used, unsteady, strict=True) if not off] or used
    reference = statistics.median(chunk.sentinel_us() for chunk in steady)
    drifts = [chunk.sentinel_us() / reference for chunk in used]
    factors = [drift if off else 1.0 for off, drift in zip(unsteady, drifts, strict=True)]
    plain_times, corrected_times = _times(used, factors, unsteady), _times(used, drifts, unsteady)
    noise, corrected_noise = _noise(plain_times), _noise(corrected_times)
    corrected = corrected_noise < noise
    times = corrected_times if corrected else plain_times
    clock = {label: statistics.median(times[label]) for label in plan.policies}
    clock[SENTINEL] = reference
    anywhere = _rows(chunks, [1.0] * len(chunks))  # what is timed once only may lie in a chunk that was put aside
    return Summary(
        states=tuple(states),
        used=tuple(places),
        corrected=corrected,
        noise_floor=corrected_noise if corrected else noise,
        clock_us=clock,
        rows_us=anywhere | _rows(used, drifts if corrected else factors),
    )


def _used(chunks: Sequence[Chunk], states: Sequence[ChunkState]) -> list[int]:
    """The steady chunks, and for networks that are in none of them the one nearest to the level."""
    used = [place for place, state in enumerate(states) if not state.reason]
    timed = {sample.label for place in used for sample in chunks[place].samples}
    others = sorted((place for place in range(len(chunks)) if place not in used), key=lambda p: abs(states[p].drift))
    for place in others:
        labels = {sample.label for sample in chunks[place].samples}
        if labels - timed:
            used.append(place)
            timed |= labels
    return sorted(used)


def _times(chunks: Sequence[Chunk], factors: Sequence[float], unsteady: Sequence[bool]) -> dict[str, list[float]]:
    """Each network's times divided by the chunks' factors; of steady chunks only, where it has been in one."""
    steady: dict[str, list[float]] = {}
    others: dict[str, list[float]] = {}
    for chunk, factor, off in zip(chunks, factors, unsteady, strict=True):
        for sample in chunk.samples:
            (others if off else steady).setdefault(sample.label, []).append(sample.time_us() / factor)
    return others | steady


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

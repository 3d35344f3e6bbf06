"""Runs a campaign: makes the networks of a plan, hands them to the device chunk by chunk, and logs what they took.

Nodes are timed in a network's first turn in a chunk: what counts is their share of its time, which all turns tell.
Where layers are measured alone, a carrier's layers are timed in the first chunk that has the carrier, those that were
timed for an earlier one not again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from amc_mobile.device.protocol import Device, Progress
from amc_mobile.measurements import Measurement, TimingJob, TimingProtocol
from amc_mobile.profile.campaign import SENTINEL, Chunk, Plan, Sample
from amc_mobile.profile.campaign_log import Log
from amc_mobile.profile.layers import LayerKey, layer_keys, layer_models
from amc_mobile.profile.mapping import RowKey
from amc_mobile.profile.variants import Variants
from amc_mobile.sections.profile import ProfileConfig

_ALONE = TimingProtocol(rounds=1, warmups=2, runs=7, min_time_s=0.0, cold=True)  # of a single layer

Watch = Callable[[Plan, Sequence[Chunk]], None]  # told after every chunk
Rows = Literal["nodes", "layers", "none"]  # how the rows of the table are timed, if at all


def turns_of(config: ProfileConfig, seed: int) -> TimingProtocol:
    """How the networks of one chunk take turns."""
    return TimingProtocol(config.turns, config.warmups, config.runs, config.min_time_s, profile_rounds=1, seed=seed)


def measure(
    variants: Variants,
    device: Device,
    plan: Plan,
    protocol: TimingProtocol,
    log: Log,
    progress: Progress | None = None,
    *,
    rows: Rows = "nodes",
    watch: Watch | None = None,
) -> None:
    """Times what the plan says is still to be timed into the log. `watch` is told how steady the rounds are so far.

    Raises: DeviceError, GraphError, RunFolderError.
    """
    alone = _Alone(variants, device, plan, log.chunks)
    while (step := plan.next_chunk(log.chunks)) is not None:
        round_number, index = step
        labels = plan.chunks(round_number)[index]
        jobs = [
            TimingJob(
                label, variants.model(plan.policies[label]), rows == "nodes" and (label != SENTINEL or index == 0)
            )
            for label in labels
        ]
        order = _with_seed(protocol, plan.seed, round_number, index)
        told = _part(progress, plan, log.chunks, protocol.rounds, step)
        results = device.time_models(jobs, order, told)
        samples = tuple(_sample(result, variants) for result in results)
        if rows == "layers":
            samples = tuple(replace(sample, rows_us=alone.rows_us(sample.label, told)) for sample in samples)
        log.append(Chunk(round_number, index, results[0].conditions, samples))
        if watch is not None:
            watch(plan, tuple(log.chunks))


def _sample(result: Measurement, variants: Variants) -> Sample:
    rows = {key: times[0] for key, times in variants.rows(result.nodes).items()}
    return Sample(result.label, result.values_us, result.warmups_us, rows)


class _Alone:
    """Times of single layers; what the log holds already is not timed again."""

    def __init__(self, variants: Variants, device: Device, plan: Plan, done: Sequence[Chunk]) -> None:
        self._variants, self._device, self._plan = variants, device, plan
        self._timed: dict[LayerKey, float] = {}
        self._told: set[str] = set()
        for chunk in done:
            for sample in chunk.samples:
                keys = layer_keys(variants.traced, plan.policies[sample.label])
                self._timed.update({keys[key]: time for key, time in sample.rows_us.items() if key in keys})
                self._told |= {sample.label} if sample.rows_us else set()

    def rows_us(self, label: str, progress: Progress | None) -> dict[RowKey, float]:
        """The rows of a network, µs; none if they were told before."""
        if label in self._told:
            return {}
        self._told.add(label)
        policy = self._plan.policies[label]
        fresh = [(key, model) for key, model in layer_models(self._variants.traced, policy) if key not in self._timed]
        jobs = [TimingJob(model.graph.name, self._variants.finished(model)) for _key, model in fresh]

        def told(step: int, steps: int, _what: str) -> None:
            if progress is not None:
                progress(0, 1, f"layers of {label}, {step} of {steps}")

        results = self._device.time_models(jobs, _ALONE, told) if jobs else []
        self._timed.update({key: result.latency_us() for (key, _model), result in zip(fresh, results, strict=True)})
        return {row: self._timed[key] for row, key in layer_keys(self._variants.traced, policy).items()}


def _with_seed(protocol: TimingProtocol, *numbers: int) -> TimingProtocol:
    """The same protocol with an order of its own for each chunk."""
    return replace(protocol, seed=int(np.random.SeedSequence(numbers).generate_state(1)[0]))


def _part(
    progress: Progress | None, plan: Plan, done: list[Chunk], turns: int, slot: tuple[int, int]
) -> Progress | None:
    """Progress of one chunk as a part of the whole campaign, in turns; what is measured again adds to the total."""
    if progress is None:
        return None
    number, index = slot
    before = turns * sum(len(chunk.samples) for chunk in done)
    here = turns * len(plan.chunks(number)[index])

    def report(step: int, steps: int, what: str) -> None:  # a phone's steps are not turns: it counts profiles, too
        again = " (again: it was disturbed)" if len(done) >= plan.size else ""
        total = max(turns * plan.steps(), before + here)
        progress(before + here * step // max(steps, 1), total, f"round {number + 1}, {what}{again}")

    return report

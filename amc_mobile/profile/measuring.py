"""Runs a campaign: makes the networks of a plan, hands them to the device chunk by chunk, and logs what they took."""

from __future__ import annotations

import numpy as np

from amc_mobile.device.protocol import Device, Progress
from amc_mobile.profile.campaign import SENTINEL, Chunk, Plan, Sample
from amc_mobile.profile.campaign_log import Log
from amc_mobile.profile.variants import Variants
from amc_mobile.types import Measurement, TimingJob, TimingProtocol


def measure(
    variants: Variants,
    device: Device,
    plan: Plan,
    protocol: TimingProtocol,
    log: Log,
    progress: Progress | None = None,
    *,
    nodes: bool = True,
) -> None:
    """Times what the plan says is still to be timed into the log. `nodes`: row by row too, not only end to end.

    Raises: DeviceError, RunFolderError.
    """
    while (step := plan.next_chunk(log.chunks)) is not None:
        round_number, index = step
        labels = plan.chunks(round_number)[index]
        jobs = [
            TimingJob(label, variants.model(plan.policies[label]), profile=nodes and (label != SENTINEL or index == 0))
            for label in labels
        ]
        order = _with_seed(protocol, plan.seed, round_number, index)
        results = device.time_models(jobs, order, _part(progress, plan, log.chunks, round_number))
        samples = tuple(_sample(result, variants) for result in results)
        log.append(Chunk(round_number, index, results[0].conditions, samples))


def _sample(result: Measurement, variants: Variants) -> Sample:
    rows = {key: times[0] for key, times in variants.rows(result.nodes).items()}
    return Sample(result.label, result.values_us[0], result.warmups_us[0], rows)


def _with_seed(protocol: TimingProtocol, *numbers: int) -> TimingProtocol:
    """The same protocol with an order of its own for each chunk."""
    seed = int(np.random.SeedSequence(numbers).generate_state(1)[0])
    return TimingProtocol(protocol.rounds, protocol.warmups, protocol.runs, protocol.min_time_s, seed=seed)


def _part(progress: Progress | None, plan: Plan, done: list[Chunk], round_number: int) -> Progress | None:
    """Progress of one chunk as a part of the whole campaign; repeated rounds add to the total."""
    if progress is None:
        return None
    before = sum(len(chunk.samples) for chunk in done)
    total = max(plan.steps(), plan.steps() // plan.rounds * (round_number + 1))

    def report(step: int, _steps: int, what: str) -> None:
        again = " (again: the clock drifted)" if round_number >= plan.rounds else ""
        progress(before + step, total, f"round {round_number + 1}, {what}{again}")

    return report

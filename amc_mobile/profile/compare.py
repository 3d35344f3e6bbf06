"""Original against pruned network on one device: interleaved in many short rounds, with an interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from amc_mobile.device.protocol import Device, ModelsFailed, Progress
from amc_mobile.measurements import Comparison, Measurement, TimingJob, TimingProtocol
from amc_mobile.profile.interval import speedup_interval
from amc_mobile.profile.layer_times import layer_times
from amc_mobile.profile.variants import Variants

_NEEDED = ("original", "pruned")


def compare(
    device: Device,
    original: bytes,
    pruned: bytes,
    protocol: TimingProtocol,
    predicted_us: float | None,
    progress: Progress | None = None,
    *,
    reference_us: float | None = None,
    int8: bytes | None = None,
    original_int8: bytes | None = None,
    variants: Variants | None = None,
) -> Comparison:
    """How much faster the pruned network is, and whether the table foresaw it.

    A latency is the lower quartile of the rounds, as in a latency table: what disturbs a network only slows it down,
    and small networks more than large ones. The networks of a round are timed next to each other, so that a device that
    slows down slows all of them. A speed-up is the quotient of two latencies, its interval a bootstrap over the rounds.

    `predicted_us` is the table's word for the pruned network, `reference_us` the original's time when the table was
    measured. A shared or warm device is some percent faster or slower another day, all networks alike: the original,
    timed again here, says by how much, and the prediction is brought to today's clock.

    `int8` and `original_int8`, pruned and original network quantised, are timed beside them; where the device cannot
    run one, the others' times stand. With `variants`, to which both float networks belong, the layers are timed too, if
    the device tells a node's time.

    Raises: DeviceError if the original or the pruned network does not run.
    """
    profile = variants is not None and device.info().node_times
    given = {"original": original, "pruned": pruned, "original_int8": original_int8, "int8": int8}
    models = {label: model for label, model in given.items() if model is not None}
    jobs = [TimingJob(label, model, profile and label in _NEEDED) for label, model in models.items()]
    measured, failed = _measured(device, jobs, protocol, progress)
    found = _compared(device, measured, protocol.seed, predicted_us, reference_us)
    layers = layer_times(variants, found.original, found.pruned) if variants is not None and profile else ()
    return replace(
        found,
        failed=failed,
        bytes={label: len(model) for label, model in models.items()},
        layers=layers,
    )


def _measured(
    device: Device, jobs: Sequence[TimingJob], protocol: TimingProtocol, progress: Progress | None
) -> tuple[Mapping[str, Measurement], dict[str, str]]:
    """What the device says by label, and why it says nothing. Raises: DeviceError."""
    try:
        results = device.time_models(jobs, protocol, progress)
    except ModelsFailed as error:
        if not error.measured.keys() >= set(_NEEDED):
            raise
        return error.measured, dict(error.reasons)
    return {job.label: result for job, result in zip(jobs, results, strict=True)}, {}


def _compared(
    device: Device,
    measured: Mapping[str, Measurement],
    seed: int,
    predicted_us: float | None,
    reference_us: float | None,
) -> Comparison:
    before, after = measured["original"], measured["pruned"]
    int8, original_int8 = measured.get("int8"), measured.get("original_int8")
    before_us = before.latency_us()
    speedup, interval = speedup_of(before, after, seed)
    after_us = before_us / speedup
    speedup_int8, interval_int8 = (None, None) if int8 is None else speedup_of(before, int8, seed)
    alone, interval_alone = (None, None) if original_int8 is None else speedup_of(before, original_int8, seed)
    drift = None if reference_us is None else before_us / reference_us
    predicted = None if predicted_us is None else predicted_us * (drift or 1.0)
    return Comparison(
        device=device.info(),
        original=before,
        pruned=after,
        latency_before_us=before_us,
        latency_after_us=after_us,
        speedup=speedup,
        speedup_ci=interval,
        predicted_us=predicted,
        prediction_error=None if predicted is None else predicted / after_us - 1.0,
        drift=drift,
        int8=int8,
        latency_int8_us=None if speedup_int8 is None else before_us / speedup_int8,
        speedup_int8=speedup_int8,
        speedup_int8_ci=interval_int8,
        original_int8=original_int8,
        latency_original_int8_us=None if alone is None else before_us / alone,
        speedup_original_int8=alone,
        speedup_original_int8_ci=interval_alone,
    )


def speedup_of(before: Measurement, after: Measurement, seed: int) -> tuple[float, tuple[float, float]]:
    """The quotient of the latencies, and its 95 % interval."""
    rounds = before.round_medians_us(), after.round_medians_us()
    return before.latency_us() / after.latency_us(), speedup_interval(*rounds, np.random.default_rng(seed))

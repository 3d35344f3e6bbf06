"""Original against pruned network on one device: interleaved in many short rounds, with an interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from amc_mobile.device.protocol import Device, Progress
from amc_mobile.types import Comparison, TimingJob, TimingProtocol

_RESAMPLES = 10_000


def compare(
    device: Device,
    original: bytes,
    pruned: bytes,
    protocol: TimingProtocol,
    predicted_us: float | None,
    progress: Progress | None = None,
    *,
    reference_us: float | None = None,
) -> Comparison:
    """How much faster the pruned network is, and whether the table foresaw it.

    The speedup is the median of the rounds' ratios: both networks of a round are timed next to each other, so that a
    device that slows down slows both. The interval is a bootstrap over the rounds.

    `predicted_us` is the table's word for the pruned network, `reference_us` the original's time when the table was
    measured. A shared or warm device is some percent faster or slower another day, all networks alike: the original,
    timed again here, says by how much, and the prediction is brought to today's clock. Raises: DeviceError.
    """
    jobs = [TimingJob("original", original), TimingJob("pruned", pruned)]
    before, after = device.time_models(jobs, protocol, progress)
    ratios = [a / b for a, b in zip(before.round_medians_us(), after.round_medians_us(), strict=True)]
    after_us = after.median_us()
    drift = None if reference_us is None else before.median_us() / reference_us
    predicted = None if predicted_us is None else predicted_us * (drift or 1.0)
    return Comparison(
        device=device.info(),
        original=before,
        pruned=after,
        latency_before_us=before.median_us(),
        latency_after_us=after_us,
        speedup=float(np.median(ratios)),
        speedup_ci=median_interval(ratios, np.random.default_rng(protocol.seed)),
        predicted_us=predicted,
        prediction_error=None if predicted is None else predicted / after_us - 1.0,
        drift=drift,
    )


def median_interval(values: Sequence[float], rng: np.random.Generator, confidence: float = 0.95) -> tuple[float, float]:
    """The interval in which the median lies with this confidence: percentiles of resampled medians (Efron 1979)."""
    sample = np.asarray(values)
    medians = np.median(rng.choice(sample, size=(_RESAMPLES, len(sample))), axis=1)
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(medians, [tail, 100.0 - tail])
    return float(low), float(high)

"""How sure a median, a latency or a speed-up is: percentiles of what resampled rounds say (Efron 1979)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

_RESAMPLES = 10_000


def median_interval(values: Sequence[float], rng: np.random.Generator, confidence: float = 0.95) -> tuple[float, float]:
    """The interval in which the median lies with this confidence."""
    sample = np.asarray(values)
    return _middle(np.median(rng.choice(sample, size=(_RESAMPLES, len(sample))), axis=1), confidence)


def latency_interval(rounds_us: Sequence[float], rng: np.random.Generator) -> tuple[float, float]:
    """The 95 % interval of a network's latency, from the medians of its rounds."""
    sample = np.asarray(rounds_us)
    return _middle(np.quantile(rng.choice(sample, size=(_RESAMPLES, len(sample))), 0.25, axis=1))


def speedup_interval(
    before_us: Sequence[float], after_us: Sequence[float], rng: np.random.Generator
) -> tuple[float, float]:
    """The 95 % interval of the quotient of two latencies that were measured in the same rounds."""
    pairs = np.array([before_us, after_us])
    drawn = pairs[:, rng.integers(pairs.shape[1], size=(_RESAMPLES, pairs.shape[1]))]
    before, after = np.quantile(drawn, 0.25, axis=2)
    return _middle(before / after)


def _middle(values: np.ndarray[Any, np.dtype[np.float64]], confidence: float = 0.95) -> tuple[float, float]:
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(values, [tail, 100.0 - tail])
    return float(low), float(high)

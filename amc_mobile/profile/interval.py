"""How sure a median is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_RESAMPLES = 10_000


def median_interval(values: Sequence[float], rng: np.random.Generator, confidence: float = 0.95) -> tuple[float, float]:
    """The interval in which the median lies with this confidence: percentiles of resampled medians (Efron 1979)."""
    sample = np.asarray(values)
    medians = np.median(rng.choice(sample, size=(_RESAMPLES, len(sample))), axis=1)
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(medians, [tail, 100.0 - tail])
    return float(low), float(high)

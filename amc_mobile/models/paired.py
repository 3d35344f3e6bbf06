"""How sure accuracies are, and differences of accuracies on the same images."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_Z = 1.959964  # 95 % of a normal distribution lie within so many standard deviations
_RESAMPLES = 10_000

Right = NDArray[np.bool_]  # (seeds, images): which answers were right


def accuracy_interval(share: float, images: int) -> tuple[float, float]:
    """The 95 % interval of an accuracy that was counted on so many images (Wilson 1927).

    For the mean of several trainings on the same images it is on the safe side.

    >>> [round(end, 3) for end in accuracy_interval(0.9, 100)]
    [0.826, 0.945]
    """
    squared = _Z**2 / images
    centre = (share + squared / 2) / (1 + squared)
    half = _Z / (1 + squared) * math.sqrt(share * (1 - share) / images + squared / (4 * images))
    return max(0.0, centre - half), min(1.0, centre + half)


def difference_interval(one: Right, other: Right, rng: np.random.Generator) -> tuple[float, float]:
    """The 95 % interval of accuracy(one) - accuracy(other), both asked the same images: a bootstrap over images.

    All answers to an image are drawn together (Efron 1979), so that what is hard for both cancels. It tells how far
    other images would move the difference, not how far other seeds would.
    """
    gains = one.mean(axis=0) - other.mean(axis=0)
    values, counts = np.unique(gains, return_counts=True)
    drawn = rng.multinomial(len(gains), counts / len(gains), size=_RESAMPLES)  # as drawing images, but all at once
    low, high = np.percentile(drawn @ values / len(gains), [2.5, 97.5])
    return float(low), float(high)

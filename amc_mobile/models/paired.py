"""How sure accuracies are, and differences of accuracies on the same images, of networks that were trained by chance.

Two things might have come out otherwise: which images were there to test on, and what the seeds made of the training.
Both variances are added; how few seeds there are is taken into account by Student's t with Welch's and Satterthwaite's
degrees of freedom (1947, 1946). With one seed its luck is unknown, and intervals are about the images alone.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

_Z = 1.959964  # 95 % of a normal distribution lie within so many standard deviations
_TAIL = 0.975

Right = NDArray[np.bool_]  # (seeds, images): which answers were right


def share_interval(share: float, images: int) -> tuple[float, float]:
    """The 95 % interval of a share of `images` independent images (Wilson 1927).

    >>> low, high = share_interval(0.5, 100)
    >>> round(low, 3), round(high, 3)
    (0.404, 0.596)
    """
    if images == 0:
        return 0.0, 1.0
    centre = (share + _Z**2 / (2 * images)) / (1 + _Z**2 / images)
    half = _Z / (1 + _Z**2 / images) * math.sqrt(share * (1 - share) / images + _Z**2 / (4 * images**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def accuracy_interval(right: Right) -> tuple[float, float]:
    """The 95 % interval of a mean accuracy: over images by Wilson (1927), over seeds by their variance.

    >>> [round(end, 3) for end in accuracy_interval(np.arange(100)[None] < 90)]
    [0.826, 0.945]
    """
    images = right.shape[1]
    share = float(right.mean())
    below, above = (((share - end) / _Z) ** 2 for end in share_interval(share, images))
    seeds = _of_seeds(right.mean(axis=1))
    low, high = (_half(variance, images, seeds, len(right)) for variance in (below, above))
    return max(0.0, share - low), min(1.0, share + high)


def difference_interval(one: Right, other: Right) -> tuple[float, float]:
    """The 95 % interval of accuracy(one) - accuracy(other), both trained from the same seeds and asked the same images.

    Images that both find equally hard, and seeds that are lucky for both, say nothing about the difference. Over images
    it is Wald's, after half an image was added to each of the four outcomes, which keeps it honest where few answers
    differ (Agresti and Min 2005, for matched pairs).
    """
    gains = one.mean(axis=0) - other.mean(axis=0)
    images = len(gains) + 2.0
    mean = float(gains.sum()) / images
    variance = max(0.0, (float(np.square(gains).sum()) + 1.0) / images - mean**2) / images
    half = _half(variance, len(gains), _of_seeds(one.mean(axis=1) - other.mean(axis=1)), len(one))
    return mean - half, mean + half


def change_interval(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> tuple[float, float]:
    """The 95 % interval of accuracy(after) - accuracy(before), of two networks that answered the same images, (N,).

    >>> [round(end, 4) for end in change_interval(np.arange(100) < 90, np.arange(100) < 87)]
    [-0.0674, 0.0086]
    """
    return difference_interval(after[None], before[None])


def _of_seeds(values: NDArray[np.float64]) -> float:
    """The variance of the seeds' mean; 0 for one seed, which tells nothing about it."""
    return float(values.var(ddof=1)) / len(values) if len(values) > 1 else 0.0


def _half(of_images: float, images: int, of_seeds: float, seeds: int) -> float:
    """Half of the 95 % interval of a mean with these two variances."""
    total = of_images + of_seeds
    if of_seeds == 0.0:
        return _Z * math.sqrt(total)
    freedom = total**2 / (of_images**2 / max(images - 1, 1) + of_seeds**2 / (seeds - 1))
    return float(t.ppf(_TAIL, freedom)) * math.sqrt(total)

"""How sure an accuracy is, and the difference of two on the same images."""

from __future__ import annotations

import math

import numpy as np
import onnx
from numpy.typing import NDArray

from amc_mobile.cli.session import Session

Right = NDArray[np.bool_]  # (images,): which ones a network answered rightly

_SIGMAS = 1.96  # of a normal distribution: 95 %


def right(session: Session, *models: onnx.ModelProto) -> list[Right]:
    """Which of the run's test images each network answers rightly."""
    test, labels = session.evaluator("test"), session.splits.test.labels
    return [test.logits(model).argmax(axis=1) == labels for model in models]


def interval(right: Right) -> tuple[float, float]:
    """Wilson's 95 % interval of an accuracy.

    >>> [round(end, 3) for end in interval(np.arange(100) < 90)]
    [0.826, 0.945]
    """
    n, share, z = len(right), float(right.mean()), _SIGMAS
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return middle - half, middle + half


def difference(one: Right, other: Right) -> tuple[float, float, float]:
    """By how much `one` is more often right than `other` on the same images, with the ends of its 95 % interval.

    Images that both answer alike say nothing about the difference: only those count that one of them misses.

    >>> [round(value, 3) for value in difference(np.arange(100) < 90, np.arange(100) < 80)]
    [0.1, 0.041, 0.159]
    """
    return mean_interval(one.astype(np.float64) - other.astype(np.float64))


def mean_interval(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """The mean of independent values (images,), with the ends of its 95 % interval."""
    mean, error = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values))
    return mean, mean - _SIGMAS * error, mean + _SIGMAS * error

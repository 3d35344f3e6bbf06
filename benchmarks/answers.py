"""Which test images networks answer rightly, and by how much one is more often right than another."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray

from amc_mobile.cli.session import Session
from amc_mobile.models.evaluation import open_evaluator
from amc_mobile.models.paired import accuracy_interval, difference_interval

Right = NDArray[np.bool_]  # (images,) of one network, (seeds, images) of several
Difference = tuple[float, float, float]  # and the ends of its 95 % interval


def right(session: Session, *models: onnx.ModelProto) -> list[Right]:
    """Which of the run's test images each network answers rightly, (images,); run on a GPU if there is one."""
    split = session.splits.test
    test = open_evaluator(split.tensors(session.preprocessing), split.labels, session.threads, judge=session.task.judge)
    return [test.logits(model).argmax(axis=1) == split.labels for model in models]


def interval(one: Right) -> tuple[float, float]:
    """The 95 % interval of an accuracy."""
    return accuracy_interval(np.atleast_2d(one))


def difference(one: Right, other: Right) -> Difference:
    """accuracy(one) - accuracy(other) on the same images, and the same seeds if there are several."""
    one, other = np.atleast_2d(one), np.atleast_2d(other)
    return float(one.mean() - other.mean()), *difference_interval(one, other)

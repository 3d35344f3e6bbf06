"""What a network is for: what it answers, which labels it learns from, and how its answers are judged.

Everything between (graph, table, pruning, search) is the same for every task. Classification is told by this file
alone, detection by detection.py; how they are trained by train/fit.py and train/detector.py.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax
from torch import nn

from amc_mobile.models.evaluation import Judges
from amc_mobile.models.outcomes import Judge, divergences
from amc_mobile.types import TaskName

Answers = NDArray[np.floating]


class Task(Protocol):
    """One task, for one network."""

    def judge(self, labels: NDArray[Any], reference: Answers | None) -> Judges:
        """Who compares answers with the labels (N,) and with the original's answers (N, ...), if there are some."""
        ...

    def distance(self, reference: Answers, answers: Answers) -> float:
        """How far answers (N, ...) are from those of the original, on average: nats."""
        ...


class Classification:
    """Answers are logits (N, classes), labels are classes."""

    def judge(self, labels: NDArray[Any], reference: Answers | None) -> Judges:
        """See Task."""
        return Judge(labels, reference)

    def distance(self, reference: Answers, answers: Answers) -> float:
        """Mean KL divergence KL(original || network)."""
        right, own = reference.astype(np.float64), answers.astype(np.float64)
        return float(divergences(log_softmax(right, axis=1), own).mean())


def task_of(name: TaskName, original: nn.Module | None) -> Task:
    """The task of that name, for a network and what is pruned from it; only detection asks for the network."""
    if name == "classification" or original is None:
        return Classification()
    from amc_mobile.models.detection import Detection

    return Detection(original)

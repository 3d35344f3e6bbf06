"""Detection: boxes with classes. Raw answers are decoded by torchvision's own code, and judged by COCO's measure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from amc_mobile.models.average_precision import average_precision, targets
from amc_mobile.models.detectors import Detection as Found
from amc_mobile.models.detectors import Detector
from amc_mobile.models.evaluation import Judges
from amc_mobile.models.task import Answers
from amc_mobile.trials import Race
from amc_mobile.types import Score

_EXTREME = 1e4  # stands for infinite answers, so that a broken network scores badly instead of breaking the search
_BATCH = 32  # images whose answers are decoded or compared at once


class Detection:
    """Answers are what the heads of one detector say; it also decodes what pruned copies of it answer."""

    def __init__(self, original: nn.Module) -> None:
        self.detector = cast("Detector", original.eval())

    def judge(self, labels: NDArray[Any], reference: Answers | None) -> Judges:
        """See Task."""
        return DetectionJudge(self.detector, labels, reference)

    def distance(self, reference: Answers, answers: Answers) -> float:
        """Mean divergence of the heads' answers, see Detector."""
        return float(divergences(self.detector, reference, answers).mean())


@dataclass(frozen=True, slots=True)
class Judged:
    """The score of a network on all images: average precision is of the whole set, and cannot be known early."""

    whole: Score

    def score(self, race: Race | None = None) -> Score:
        """See Answered."""
        return self.whole


class DetectionJudge:
    """Knows what the pictures show, and what the original network answers."""

    def __init__(self, detector: Detector, labels: NDArray[np.object_], reference: Answers | None) -> None:
        self.order = np.arange(len(labels))
        self._detector, self._reference = detector, reference
        self._wanted = targets(labels, detector.size)

    def outcomes(self, answers: Iterable[NDArray[np.floating]], race: Race | None = None) -> Judged:
        """Takes batches of answers until all images were shown; no race is decided earlier."""
        found: list[Found] = []
        lost = [np.zeros(0)]
        for batch in answers:
            here = slice(len(found), len(found) + len(batch))
            found += detections(self._detector, batch)
            if self._reference is not None:
                lost.append(divergences(self._detector, self._reference[here], batch))
        strict, loose = average_precision(found, self._wanted)
        all_lost = np.concatenate(lost)
        kl = float(all_lost.mean()) if len(all_lost) else 0.0
        return Judged(Score(None, None, kl, len(found), map=strict, map50=loose))


def detections(detector: Detector, answers: Answers) -> list[Found]:
    """What the detector makes of raw answers (N, ...): one dict of boxes, scores and labels per image."""
    with torch.inference_mode():
        return detector.detections(_finite(answers))


def divergences(detector: Detector, reference: Answers, answers: Answers) -> NDArray[np.float64]:
    """How far answers (N, ...) are from a reference, nats, (N,)."""
    parts = [np.zeros(0)]
    with torch.inference_mode():
        for start in range(0, len(answers), _BATCH):
            right, own = reference[start : start + _BATCH], answers[start : start + _BATCH]
            parts.append(detector.divergences(_finite(right), _finite(own)).double().numpy())
    return np.concatenate(parts)


def _finite(answers: Answers) -> torch.Tensor:
    plain = np.nan_to_num(answers.astype(np.float32), nan=-_EXTREME, posinf=_EXTREME, neginf=-_EXTREME)
    return torch.from_numpy(np.clip(plain, -_EXTREME, _EXTREME))

"""Mean average precision as COCO defines it, by torchmetrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from amc_mobile.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from amc_mobile.models.detectors import Detection

Target = dict[str, "torch.Tensor"]

MOST = 100  # detections of an image that count, the most certain ones
_INSTALL = "pip install 'amc-mobile[detection]'"


def targets(labels: NDArray[np.object_], size: int) -> list[Target]:
    """What pictures show, as torchvision and torchmetrics want it: boxes in pixels, classes from 1, crowds."""
    import torch

    return [
        {
            "boxes": torch.from_numpy(objects.boxes * np.float32(size)),
            "labels": torch.from_numpy(objects.classes + 1),
            "iscrowd": torch.from_numpy(objects.ignored.astype(np.int64)),
        }
        for objects in labels
    ]


def average_precision(found: Sequence[Detection], wanted: Sequence[Target]) -> tuple[float, float]:
    """(mAP over overlaps of 0.5 to 0.95, mAP at 0.5), in [0, 1]; 0 where there is nothing to find.

    Raises: ConfigError if torchmetrics or what counts for it is not installed.
    """
    metric = _metric()
    metric.update([{key: value[:MOST] for key, value in each.items()} for each in found], list(wanted))
    answer = metric.compute()
    return max(float(answer["map"]), 0.0), max(float(answer["map_50"]), 0.0)


def _metric() -> Any:
    try:
        from torchmetrics.detection import MeanAveragePrecision

        return MeanAveragePrecision(backend="faster_coco_eval")
    except ImportError as error:  # of either package, which torchmetrics says itself
        raise ConfigError(f"detection is scored by torchmetrics and faster-coco-eval; type {_INSTALL}") from error

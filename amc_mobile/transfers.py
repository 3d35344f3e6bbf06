"""What a transfer found: transfer.json, a run's pruned backbone on other images."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from amc_mobile.measurements import DeviceInfo


@dataclass(frozen=True, slots=True)
class Contender:
    """One network of a transfer: what it costs, and how good it became on the other images, seed by seed.

    `top1_ci` is the 95 % interval of the mean of `top1`, over images and, if there are several, over seeds. Times are
    None where no device timed it; a network of the same shape as an earlier one has that one's. `speedup` is original /
    this one.
    """

    name: str  # "pruned", "original", "uniform", "scratch"
    top1: tuple[float, ...]
    top1_ci: tuple[float, float]
    macs: int
    params: int
    bytes: int
    parity: float  # how far the exported file is from the module, relative to the largest logit
    seconds: float  # of training, all seeds; of an interrupted one its last part
    folder: str  # where its weights.pt and model.onnx are, those of the first seed
    latency_us: float | None = None
    speedup: float | None = None
    speedup_ci: tuple[float, float] | None = None

    @property
    def accuracy(self) -> float:
        """Mean top-1 over the seeds."""
        return statistics.fmean(self.top1)


@dataclass(frozen=True, slots=True)
class Gap:
    """The pruned network's top-1 minus another's on the same test images: by seed, and the mean's 95 % interval."""

    against: str
    differences: tuple[float, ...]
    interval: tuple[float, float]

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return statistics.fmean(self.differences)


@dataclass(frozen=True, slots=True)
class TransferResult:
    """transfer.json: a run's pruned backbone on other images, and what was trained alike beside it."""

    schema: int
    model: str
    run: str
    data: str
    classes: int
    train_images: int
    test_images: int
    epochs: int
    seeds: tuple[int, ...]
    contenders: tuple[Contender, ...]  # the pruned one first
    gaps: tuple[Gap, ...]
    device: DeviceInfo | None = None

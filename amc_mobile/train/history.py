"""What came of a training, epoch by epoch: train.json and finetune.json of a run folder."""

from __future__ import annotations

from dataclasses import dataclass

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass over the images. `loss` is its mean, `learning_rate` that of its last step.

    `validation_accuracy` is the share of right answers on the images set aside; None: none were.
    """

    number: int
    loss: float
    validation_accuracy: float | None
    learning_rate: float
    seconds: float
    images_per_s: float


@dataclass(frozen=True, slots=True)
class History:
    """One training. `best_epoch` is the one whose weights count; `precision` is that of the arithmetic."""

    schema: int
    epochs: tuple[Epoch, ...]
    best_epoch: int
    asked_epochs: int
    stopped_early: bool
    images: int
    validation_images: int
    batch_norms: str
    device: str
    precision: str
    processes: int

    @property
    def seconds(self) -> float:
        """Of all epochs, without preparation and pauses."""
        return sum(epoch.seconds for epoch in self.epochs)

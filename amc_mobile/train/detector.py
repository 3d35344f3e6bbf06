"""Training of a detector, from scratch or after the cut, by torchvision's own losses.

Stochastic gradient descent with Nesterov momentum, warm-up and cosine, gradients cut to a largest norm; a moving
average of the weights is what counts at the end. Chance follows from the seed and the epoch's number, so that a resumed
training equals an uninterrupted one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from amc_mobile.device.protocol import Progress
from amc_mobile.errors import ConfigError, DataError
from amc_mobile.models.average_precision import Target, targets
from amc_mobile.models.objects import Objects
from amc_mobile.runs import write_json
from amc_mobile.sections.finetune import FinetuneConfig
from amc_mobile.sections.train import TrainConfig
from amc_mobile.train import batch_norm, resuming, schedule
from amc_mobile.train.augment import Changes, augmented, draw
from amc_mobile.train.average import WeightAverage
from amc_mobile.train.batches import ImageSource, shuffled
from amc_mobile.train.history import SCHEMA, Epoch, History

Settings = FinetuneConfig | TrainConfig

_LARGEST_NORM = 10.0  # of the gradients together, unless the settings say one: a detector's first steps are wild
_SMALLEST = 2.0  # pixels: what is left of an object that was moved out of the picture further than that, is none


def fit_detector(
    module: nn.Module,
    images: ImageSource,
    labels: np.ndarray,
    settings: Settings,
    *,
    seed: int,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
    record: Path | None = None,
    after_step: Callable[[nn.Module], None] | None = None,
) -> nn.Module:
    """Trains a detector (models/detectors.py) in place and returns it in eval mode, on the CPU.

    As fit.fit, with Objects for labels; in fp32, without a teacher, validation images and several processes. Objects
    that are ignored are not learnt.
    Raises: DataError if there are no images; ConfigError if the loss is no longer a number or a setting does not apply.
    """
    if not len(images):
        raise DataError("there are no training images; leave some with data.train_images, or set the epochs to 0")
    if unknown := settings.of_classifiers():
        raise ConfigError(f"{', '.join(unknown)}: for classifiers only; leave that out for a detector")
    run = _Run(module, images, labels, settings, seed, after_step)
    run.resume(checkpoint)
    try:
        while not run.finished:
            run.epoch(progress)
            if checkpoint is not None:
                run.save(checkpoint)
            if record is not None:
                write_json(record, run.history())
        run.take_result()
    finally:
        module.to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        module.eval()
    return module


class _Run:
    """One training: the detector, its average, its optimiser, and the images."""

    def __init__(
        self,
        module: nn.Module,
        images: ImageSource,
        labels: np.ndarray,
        settings: Settings,
        seed: int,
        after_step: Callable[[nn.Module], None] | None = None,
    ) -> None:
        self._identity = resuming.identity(module, _flat(labels), settings, images.identity(), seed)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._module: Any = module.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._images, self._settings, self._seed, self._after_step = images, settings, seed, after_step
        self._targets = targets(np.array([_learnt(each) for each in labels], object), self._module.size)
        self._batch = min(settings.batch_size, len(images))
        self._steps = len(images) // self._batch  # per epoch
        self._frozen = isinstance(settings, FinetuneConfig) and (
            settings.batch_norm == "frozen" or (settings.batch_norm == "auto" and batch_norm.trivial(module))
        )
        self._optimiser = _optimiser(module, settings)
        self._average = WeightAverage(module, settings.ema) if settings.ema > 0 else None
        self._epochs: list[Epoch] = []

    @property
    def finished(self) -> bool:
        """Whether all epochs are done."""
        return len(self._epochs) >= (self._settings.epochs or 0)

    def epoch(self, progress: Progress | None) -> None:
        """Trains for one epoch. Raises: ConfigError if the loss is no longer a number."""
        start, number = time.monotonic(), len(self._epochs)
        loss = self._pass(number, progress)
        seconds = time.monotonic() - start
        rate, speed = self._optimiser.param_groups[0]["lr"], self._steps * self._batch / seconds
        self._epochs.append(Epoch(number + 1, loss, None, rate, round(seconds, 3), round(speed, 1)))

    def take_result(self) -> None:
        """The module becomes the average of its weights."""
        if self._epochs and self._average is not None:
            self._module.load_state_dict(self._average.network.state_dict())

    def _pass(self, epoch: int, progress: Progress | None) -> float:
        """One pass over the images, in a new order. Returns: the mean loss."""
        chance = torch.Generator().manual_seed(self._seed * 1_000_003 + epoch)
        parts = shuffled(np.arange(len(self._images)), self._batch, chance)
        total = 0.0
        self._train_mode()
        with torch.random.fork_rng(devices=[self._device] if self._device.type == "cuda" else []):
            torch.manual_seed(self._seed * 1_000_003 + epoch)  # Faster R-CNN draws the proposals it learns from
            for step, images in enumerate(self._images.batches(parts, self._device)):
                self._set_rate((epoch * self._steps + step) / (self._steps * (self._settings.epochs or 1)))
                changes = draw(self._batch, self._settings.shift, self._settings.flip, chance)
                loss = self._step(augmented(images, changes), self._changed(parts[step], changes))
                if not math.isfinite(loss):
                    section = "finetune" if isinstance(self._settings, FinetuneConfig) else "train"
                    raise ConfigError(
                        f"training diverged in epoch {epoch + 1}: the loss is {loss}; lower {section}.learning_rate"
                    )
                total += loss
                self._tell(epoch, step, loss, progress)
        return total / self._steps

    def _train_mode(self) -> None:
        """Batch norms whose parameters are frozen keep their statistics, too: other heads rely on them."""
        self._module.train()
        if self._frozen:
            batch_norm.freeze(self._module)
        for part in self._module.modules():
            if isinstance(part, _BatchNorm) and part.weight is not None and not part.weight.requires_grad:
                part.eval()

    def _step(self, images: torch.Tensor, wanted: list[Target]) -> float:
        losses = self._module(images.contiguous(memory_format=torch.channels_last), wanted)
        loss: torch.Tensor = sum(losses.values())
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._module.parameters(), self._settings.clip or _LARGEST_NORM)
        self._optimiser.step()
        if self._after_step is not None:
            self._after_step(self._module)
        if self._average is not None:
            self._average.update(self._module)
        return float(loss.detach())

    def _changed(self, places: torch.Tensor, changes: Changes) -> list[Target]:
        """What the changed images of a batch show."""
        size = self._module.size
        corners = None if changes.corners is None else changes.corners.tolist()
        mirrored = [False] * len(places) if changes.mirrored is None else changes.mirrored.tolist()
        found = []
        for number, place in enumerate(places.tolist()):
            boxes, classes = self._targets[place]["boxes"], self._targets[place]["labels"]
            if corners is not None:
                top, left = corners[number]
                boxes = boxes + torch.tensor([changes.shift - left, changes.shift - top] * 2, dtype=boxes.dtype)
                boxes = boxes.clamp(0, size)
            if mirrored[number]:
                boxes = torch.stack([size - boxes[:, 2], boxes[:, 1], size - boxes[:, 0], boxes[:, 3]], dim=1)
            left_over = ((boxes[:, 2:] - boxes[:, :2]) >= _SMALLEST).all(dim=1)
            found.append({"boxes": boxes[left_over].to(self._device), "labels": classes[left_over].to(self._device)})
        return found

    def _set_rate(self, progress: float) -> None:
        for group in self._optimiser.param_groups:
            group["lr"] = self._settings.learning_rate * schedule.rate(progress, self._settings.warmup)

    def _tell(self, epoch: int, step: int, loss: float, progress: Progress | None) -> None:
        if progress is not None:
            epochs = self._settings.epochs or 0
            done = epoch * self._steps + step + 1
            progress(done, self._steps * epochs, f"epoch {epoch + 1} of {epochs}, loss {loss:.3f}")

    def history(self) -> History:
        """What came of it so far."""
        return History(
            schema=SCHEMA,
            epochs=tuple(self._epochs),
            best_epoch=len(self._epochs),
            asked_epochs=self._settings.epochs or 0,
            stopped_early=False,
            images=len(self._images),
            validation_images=0,
            batch_norms="frozen" if self._frozen else "trained",
            device=str(self._device),
            precision="fp32",
            processes=1,
        )

    def save(self, path: Path) -> None:
        """Writes what is needed to go on from here: all or nothing."""
        state = {
            "identity": self._identity,
            "module": self._module.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "average": None if self._average is None else self._average.state_dict(),
            "epochs": [asdict(epoch) for epoch in self._epochs],
        }
        resuming.save(path, state)

    def resume(self, path: Path | None) -> None:
        """Takes over a checkpoint of this very training, if there is one."""
        state = resuming.read(path, self._identity)
        if state is None:
            return
        self._module.load_state_dict(state["module"])
        self._optimiser.load_state_dict(state["optimiser"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        self._epochs = [Epoch(**epoch) for epoch in state["epochs"]]


def _learnt(objects: Objects) -> Objects:
    """Without what is ignored."""
    kept = ~objects.ignored
    return replace(objects, boxes=objects.boxes[kept], classes=objects.classes[kept], ignored=objects.ignored[kept])


def _flat(labels: np.ndarray) -> np.ndarray:
    """All that the labels say in one array: how many objects each picture has, then classes and boxes."""
    counts = np.array([len(each) for each in labels], np.float64)
    rows = [np.column_stack([each.classes, each.ignored, each.boxes]).ravel() for each in labels]
    return np.concatenate([counts, *rows]).astype(np.float64)


def _optimiser(module: nn.Module, settings: Settings) -> torch.optim.SGD:
    """SGD with Nesterov momentum; weights decay, biases and batch norms do not."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [item for item in parameters if item.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [item for item in parameters if item.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(
        groups, lr=settings.learning_rate, momentum=settings.momentum, nesterov=settings.momentum > 0
    )

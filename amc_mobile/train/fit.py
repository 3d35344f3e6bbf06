"""Training after the cut (He et al. 2018, section 4: fine-tuning), and the short training of the digits network.

Stochastic gradient descent on images in memory. A part of the loss may imitate the original network (Hinton, Vinyals
and Dean, 2015). Every epoch draws its random numbers from the seed and its own number, so that a resumed training
equals an uninterrupted one.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from amc_mobile.config import FinetuneConfig
from amc_mobile.device.protocol import Progress
from amc_mobile.errors import ConfigError, DataError
from amc_mobile.runs import write_bytes

State = dict[str, torch.Tensor]

_WARM_UP = 0.2  # share of the steps in which the learning rate rises


def fit(
    module: nn.Module,
    images: np.ndarray,
    labels: np.ndarray,
    settings: FinetuneConfig,
    *,
    seed: int,
    teacher: nn.Module | None = None,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
    after_step: Callable[[nn.Module], None] | None = None,
) -> nn.Module:
    """Trains the module in place and returns it in eval mode.

    Args:
        module: Answers logits (N, classes) for float32 images (N, C, H, W).
        images: The training images, prepared for the module.
        labels: Their classes, int (N,).
        settings: Epochs, learning rate and the rest.
        seed: The same seed gives the same network.
        teacher: The network to imitate, by `settings.distillation`; None: labels only.
        progress: Called after every step.
        checkpoint: File that is written after every epoch; if it is there and belongs to this training, the training
            goes on from it. The caller removes it when the result is safe.
        after_step: Called with the module after every step, to put right what the optimiser must not change.

    Raises:
        DataError: There are no images.
        ConfigError: The loss is no longer a number.
    """
    if not len(images):
        raise DataError("there are no training images; leave some with data.train_images, or set finetune.epochs to 0")
    run = _Run(module, images, labels, settings, seed=seed, teacher=teacher, after_step=after_step)
    done = run.resume(checkpoint) if checkpoint is not None else 0
    try:
        for epoch in range(done, settings.epochs):
            run.train_epoch(epoch, progress)
            if checkpoint is not None:
                run.save(checkpoint, epoch + 1)
    finally:
        module.to(memory_format=torch.contiguous_format)
        module.eval()
    return module


class _Run:
    """One training: the module, its optimiser, and the images."""

    def __init__(
        self,
        module: nn.Module,
        images: np.ndarray,
        labels: np.ndarray,
        settings: FinetuneConfig,
        *,
        seed: int,
        teacher: nn.Module | None,
        after_step: Callable[[nn.Module], None] | None,
    ) -> None:
        states = [network.state_dict() for network in (module, teacher) if network is not None]
        self._identity = _identity(*states, images=images, labels=labels, settings=settings, seed=seed)
        self._module = module.to(memory_format=torch.channels_last)
        self._images = torch.from_numpy(np.ascontiguousarray(images, np.float32))
        self._labels = torch.from_numpy(np.ascontiguousarray(labels, np.int64))
        self._settings = settings
        self._seed = seed
        self._teacher = teacher.eval() if teacher is not None and settings.distillation > 0 else None
        self._after_step = after_step
        self._batch = min(settings.batch_size, len(images))
        self._steps = len(images) // self._batch  # per epoch
        self._optimiser = _optimiser(module, settings)

    def train_epoch(self, epoch: int, progress: Progress | None) -> None:
        """One pass over the images, in a new order. Raises: ConfigError if the loss is no longer a number."""
        self._module.train()
        total = self._steps * self._settings.epochs
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed * 1_000_003 + epoch)
            for step, indices in enumerate(self._batches(), start=epoch * self._steps):
                for group in self._optimiser.param_groups:
                    group["lr"] = self._settings.learning_rate * _schedule(step / total)
                loss = self._step(indices)
                if not math.isfinite(loss):
                    raise ConfigError(
                        f"training diverged in epoch {epoch + 1}: the loss is {loss}; lower finetune.learning_rate"
                    )
                if progress is not None:
                    progress(step + 1, total, f"epoch {epoch + 1} of {self._settings.epochs}, loss {loss:.3f}")

    def save(self, path: Path, epochs: int) -> None:
        """Writes what is needed to go on after so many epochs: all or nothing."""
        state = {
            "identity": self._identity,
            "epochs": epochs,
            "module": self._module.state_dict(),
            "optimiser": self._optimiser.state_dict(),
        }
        stream = io.BytesIO()
        torch.save(state, stream)
        write_bytes(path, stream.getvalue())

    def resume(self, path: Path) -> int:
        """Takes over a checkpoint of this very training. Returns the epochs done: 0 if there is none, or another's."""
        if not path.is_file():
            return 0
        try:
            state: dict[str, Any] = torch.load(path, weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError):
            return 0
        if state.get("identity") != self._identity:
            return 0
        self._module.load_state_dict(state["module"])
        self._optimiser.load_state_dict(state["optimiser"])
        return int(state["epochs"])

    def _batches(self) -> Iterator[torch.Tensor]:
        """Indices of full batches in random order; what does not fill a batch waits for the next epoch."""
        order = torch.randperm(len(self._images))
        for step in range(self._steps):
            yield order[step * self._batch : (step + 1) * self._batch]

    def _step(self, indices: torch.Tensor) -> float:
        images = _augmented(self._images[indices], self._settings).contiguous(memory_format=torch.channels_last)
        loss = self._loss(self._module(images), self._labels[indices], images)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        if self._after_step is not None:
            self._after_step(self._module)
        return float(loss.detach())

    def _loss(self, logits: torch.Tensor, labels: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Cross entropy with the labels, mixed with the divergence from the teacher's softened answer."""
        label_loss = functional.cross_entropy(logits, labels)
        if self._teacher is None:
            return label_loss
        with torch.no_grad():
            answer = self._teacher(images)
        share, temperature = self._settings.distillation, self._settings.temperature
        soft_loss = functional.kl_div(
            functional.log_softmax(logits / temperature, dim=1),
            functional.log_softmax(answer / temperature, dim=1),
            reduction="batchmean",
            log_target=True,
        )
        return (1 - share) * label_loss + share * temperature**2 * soft_loss


def _optimiser(module: nn.Module, settings: FinetuneConfig) -> torch.optim.SGD:
    """SGD with Nesterov momentum; weights decay, biases and batch norms do not."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [item for item in parameters if item.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [item for item in parameters if item.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(
        groups, lr=settings.learning_rate, momentum=settings.momentum, nesterov=settings.momentum > 0
    )


def _schedule(progress: float) -> float:
    """The learning rate as a share of its peak: up in a straight line, down along a cosine. `progress` in [0, 1)."""
    if progress < _WARM_UP:
        return 0.1 + 0.9 * progress / _WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (progress - _WARM_UP) / (1 - _WARM_UP)))


def _augmented(images: torch.Tensor, settings: FinetuneConfig) -> torch.Tensor:
    """Each image (of (N, C, H, W)) moved by up to `shift` pixels and, if wanted, mirrored half of the time."""
    count, _, height, width = images.shape
    if settings.shift:
        padded = functional.pad(images, [settings.shift] * 4, mode="replicate")
        corners = torch.randint(0, 2 * settings.shift + 1, (count, 2)).tolist()
        images = torch.stack(
            [
                image[:, top : top + height, left : left + width]
                for image, (top, left) in zip(padded, corners, strict=True)
            ]
        )
    if settings.flip:
        mirrored = torch.rand(count) < 0.5
        images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
    return images


def _identity(*states: State, images: np.ndarray, labels: np.ndarray, settings: FinetuneConfig, seed: int) -> str:
    """What makes two trainings the same: the weights they start from, the teacher's, the images, settings, and seed."""
    digest = hashlib.sha256(json.dumps([settings.model_dump(mode="json"), seed, images.shape]).encode())
    for array in (images, labels):
        digest.update(np.ascontiguousarray(array).data)
    for state in states:
        for name, tensor in state.items():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()

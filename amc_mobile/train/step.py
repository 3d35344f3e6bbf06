"""One step of the optimiser: the loss, its gradients in the chosen precision, and what follows a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from amc_mobile.models.answer import logits_of
from amc_mobile.sections.finetune import FinetuneConfig
from amc_mobile.sections.train import TrainConfig
from amc_mobile.train import batch_norm, schedule
from amc_mobile.train.average import WeightAverage
from amc_mobile.train.losses import imitation
from amc_mobile.train.parallel import Team
from amc_mobile.train.precision import Arithmetic
from amc_mobile.train.teacher import Teacher

Settings = FinetuneConfig | TrainConfig

_FROZEN_CLIP = 1.0  # without the statistics of the batch nothing else keeps a step small


class Stepper:
    """A module on its device, its optimiser, and the moving average of its weights."""

    def __init__(
        self,
        module: nn.Module,
        settings: Settings,
        team: Team,
        teacher: Teacher | None,
        after_step: Callable[[nn.Module], None] | None,
    ) -> None:
        """Raises: ConfigError for a precision that the device does not have."""
        self.frozen = _frozen(module, settings)
        limit = _FROZEN_CLIP if self.frozen and settings.clip is None else settings.clip
        self.arithmetic = Arithmetic(settings.precision, team.device, limit)
        self.module = module.to(team.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = WeightAverage(module, settings.ema) if settings.ema > 0 else None
        self._network = team.wrapped(module)  # the same, with everybody's gradients
        self._optimiser = _optimiser(module, settings)
        self._imitated = settings.distillation if isinstance(settings, FinetuneConfig) else 0.0
        self._temperature = settings.temperature if isinstance(settings, FinetuneConfig) else 1.0
        self._teacher = teacher if self._imitated > 0 else None
        self._settings, self._after_step, self._processes = settings, after_step, team.size

    @property
    def result(self) -> nn.Module:
        """The network that would count now."""
        return self.module if self.average is None else self.average.network

    @property
    def rate(self) -> float:
        """The learning rate of the last step."""
        return float(self._optimiser.param_groups[0]["lr"])

    def train_mode(self) -> None:
        """The module as it is trained; call it before an epoch."""
        self.module.train()
        if self.frozen:
            batch_norm.freeze(self.module)

    def step(self, images: torch.Tensor, labels: torch.Tensor, share: float, progress: float) -> torch.Tensor:
        """Learns from images (n, C, H, W), which are a `share` of the batch, when `progress` of the training is done.

        Returns: this process's part of the batch's mean loss.
        """
        for group in self._optimiser.param_groups:
            group["lr"] = self._settings.learning_rate * schedule.rate(progress, self._settings.warmup)
        images = images.contiguous(memory_format=torch.channels_last)
        with self.arithmetic.autocast():
            loss = self._loss(images, labels) * share
        self.arithmetic.step(loss * self._processes, self._optimiser)  # gradients are means over the processes
        if self._after_step is not None:
            self._after_step(self.module)
        if self.average is not None:
            self.average.update(self.module)
        return loss.detach()

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs to go on."""
        return {
            "module": self.module.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "arithmetic": self.arithmetic.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from what `state_dict` gave."""
        self.module.load_state_dict(state["module"])
        self._optimiser.load_state_dict(state["optimiser"])
        self.arithmetic.load_state_dict(state["arithmetic"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])

    def _loss(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Cross entropy with the smoothed labels, mixed with the divergence from the teacher's softened answer."""
        logits = logits_of(self._network(images))
        loss = functional.cross_entropy(logits, labels, label_smoothing=self._settings.label_smoothing)
        if self._teacher is None:
            return loss
        soft = imitation(logits.float(), self._teacher(images).float(), self._temperature)
        return (1 - self._imitated) * loss + self._imitated * soft


def _frozen(module: nn.Module, settings: Settings) -> bool:
    """Whether batch norms keep their statistics: as a FinetuneConfig says. From scratch they must be learnt."""
    if not isinstance(settings, FinetuneConfig):
        return False
    return settings.batch_norm == "frozen" or (settings.batch_norm == "auto" and batch_norm.trivial(module))


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

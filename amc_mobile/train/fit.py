"""Training of a classifier, from scratch or after the cut (He et al. 2018, section 4: fine-tuning).

Stochastic gradient descent with Nesterov momentum, warm-up and cosine; a part of the loss may imitate the original
network; a moving average of the weights is what counts at the end, or what is best on images set aside. Every epoch
draws its random numbers from the seed and its own number, so that a resumed training equals an uninterrupted one.
Several processes (see `parallel`) share every batch and compute what one would, up to rounding.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from amc_mobile.config import FinetuneConfig, TrainConfig
from amc_mobile.device.protocol import Progress
from amc_mobile.errors import ConfigError, DataError
from amc_mobile.runs import write_json
from amc_mobile.train import batch_norm, resuming, schedule
from amc_mobile.train.augment import augmented, draw
from amc_mobile.train.average import WeightAverage
from amc_mobile.train.batches import ImageSource, InMemory, in_order, shuffled
from amc_mobile.train.history import SCHEMA, Epoch, History
from amc_mobile.train.losses import imitation
from amc_mobile.train.parallel import Team, together
from amc_mobile.train.precision import Arithmetic
from amc_mobile.train.validation import Judge, set_aside

Settings = FinetuneConfig | TrainConfig

_LOOK_EVERY = 20  # steps between looks at the loss where looking means waiting: on a GPU, or for other processes
_JUDGED_AT_ONCE = 256  # images


def fit(
    module: nn.Module,
    images: np.ndarray | ImageSource,
    labels: np.ndarray,
    settings: Settings,
    *,
    seed: int,
    teacher: nn.Module | None = None,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
    record: Path | None = None,
    after_step: Callable[[nn.Module], None] | None = None,
) -> nn.Module:
    """Trains the module in place and returns it in eval mode, on the CPU. A GPU is used if there is one.

    Args:
        module: Answers logits (N, classes) for float32 images (N, C, H, W).
        images: The training images, prepared for the module: an array (N, C, H, W), or what gives them in batches.
        labels: Their classes, int (N,).
        settings: Epochs, learning rate and the rest.
        seed: The same seed gives the same network.
        teacher: The network to imitate, by a FinetuneConfig's `distillation`; None: labels only.
        progress: Called after every step.
        checkpoint: File that is written after every epoch; if it is there and belongs to this training, the training
            goes on from it. The caller removes it when the result is safe.
        record: File for the History, written after every epoch.
        after_step: Called with the module after every step, to put right what the optimiser must not change.

    Raises:
        DataError: There are no images, or one cannot be read.
        ConfigError: The loss is no longer a number, or the settings do not fit the images.
    """
    if not len(images):
        raise DataError("there are no training images; leave some with data.train_images, or set the epochs to 0")
    source = InMemory(images) if isinstance(images, np.ndarray) else images
    work = partial(_fit, module, source, labels, settings, seed, teacher, after_step)
    return together(work, progress=progress, path=checkpoint, record=record)


def _fit(
    module: nn.Module,
    images: ImageSource,
    labels: np.ndarray,
    settings: Settings,
    seed: int,
    teacher: nn.Module | None,
    after_step: Callable[[nn.Module], None] | None,
    team: Team,
    progress: Progress | None = None,
    path: Path | None = None,
    record: Path | None = None,
) -> nn.Module:
    """This process's share of the training: see `fit`."""
    run = _Run(module, images, labels, settings, seed, teacher, after_step, team)
    run.resume(path)
    try:
        with batch_norm.synchronised(module, team.group):
            while not run.finished:
                run.epoch(progress)
                if team.leads and path is not None:
                    run.save(path)
                if team.leads and record is not None:
                    write_json(record, run.history())
        run.take_result()
    finally:
        module.to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        module.eval()
    return module


class _Run:
    """One training: the module, its average, its optimiser, and the images."""

    def __init__(
        self,
        module: nn.Module,
        images: ImageSource,
        labels: np.ndarray,
        settings: Settings,
        seed: int,
        teacher: nn.Module | None,
        after_step: Callable[[nn.Module], None] | None,
        team: Team,
    ) -> None:
        networks = [network for network in (module, teacher) if network is not None]
        self._identity = resuming.identity(networks, images, labels, settings, seed, team.size)
        self._arithmetic = Arithmetic(settings.precision, team.device)
        self._frozen = _frozen(module, settings)
        self._module = _placed(module, team.device)
        self._network = team.wrapped(self._module)  # the same, with everybody's gradients
        self._images, self._settings, self._seed, self._team = images, settings, seed, team
        self._labels = torch.from_numpy(np.ascontiguousarray(labels, np.int64)).to(team.device)
        self._positions, self._validation = set_aside(len(images), settings.validation_images, seed)
        self._batch = _batch_size(settings.batch_size, len(self._positions), team.size)
        self._steps = len(self._positions) // self._batch  # per epoch
        self._total = self._steps * (settings.epochs or 0)
        self._imitated, self._teacher = 0.0, None
        if isinstance(settings, FinetuneConfig) and teacher is not None and settings.distillation > 0:
            self._imitated = settings.distillation
            self._teacher = _placed(copy.deepcopy(teacher).eval(), team.device)
        self._after_step = after_step
        self._optimiser = _optimiser(module, settings)
        self._average = WeightAverage(module, settings.ema) if settings.ema > 0 else None
        self._judge = Judge(settings.patience)
        self._best: dict[str, torch.Tensor] | None = None
        self._epochs: list[Epoch] = []

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or it is enough."""
        return len(self._epochs) >= (self._settings.epochs or 0) or self._judge.impatient

    def epoch(self, progress: Progress | None) -> None:
        """Trains for one epoch and takes note of how good the network is then."""
        start = time.monotonic()
        loss = self._pass(len(self._epochs), progress)
        seconds = time.monotonic() - start
        rate, speed = self._optimiser.param_groups[0]["lr"], self._steps * self._batch / seconds
        number, accuracy = len(self._epochs) + 1, self._judged()
        self._epochs.append(Epoch(number, loss, accuracy, rate, round(seconds, 3), round(speed, 1)))
        if accuracy is not None and self._judge.improved(number, accuracy):
            self._best = {name: tensor.clone() for name, tensor in self._result.state_dict().items()}

    def take_result(self) -> None:
        """The module becomes what counts: the average of its weights, at the best epoch if there was a judge."""
        state = self._result.state_dict() if self._best is None else self._best
        if self._epochs:
            self._module.load_state_dict(state)

    # ---------------------------------------------------------------------------------------------------- one epoch

    def _pass(self, epoch: int, progress: Progress | None) -> float:
        """One pass over the images, in a new order. Returns: the mean loss. Raises: ConfigError if it is no number."""
        chance = torch.Generator().manual_seed(self._seed * 1_000_003 + epoch)  # of the order and the augmentation
        parts = shuffled(self._positions, self._batch, chance)
        mine = [part[self._team.share] for part in parts]
        losses = torch.zeros((), dtype=torch.float64, device=self._team.device)
        self._train_mode()
        with torch.random.fork_rng(devices=[self._team.device] if self._team.device.type == "cuda" else []):
            torch.manual_seed((self._seed * 1_000_003 + epoch) * 1_009 + self._team.rank)  # of dropout and the like
            for step, images in enumerate(self._images.batches(mine, self._team.device)):
                self._set_rate((epoch * self._steps + step) / self._total)
                changes = draw(self._batch, self._settings.shift, self._settings.flip, chance).share(self._team.share)
                loss = self._step(augmented(images, changes), self._labels[mine[step].to(self._team.device)])
                losses += loss
                if self._looks(step):
                    self._tell(epoch, step, self._checked(loss, epoch), progress)
        return self._checked(losses, epoch) / self._steps

    def _step(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """One step of the optimiser. Returns: this process's part of the batch's mean loss."""
        images = images.contiguous(memory_format=torch.channels_last)
        with self._arithmetic.autocast():
            loss = self._loss(images, labels) * (len(images) / self._batch)
        self._arithmetic.step(loss * self._team.size, self._optimiser)  # gradients are means over the processes
        if self._after_step is not None:
            self._after_step(self._module)
        if self._average is not None:
            self._average.update(self._module)
        return loss.detach()

    def _loss(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Cross entropy with the smoothed labels, mixed with the divergence from the teacher's softened answer."""
        logits = self._network(images)
        loss = functional.cross_entropy(logits, labels, label_smoothing=self._settings.label_smoothing)
        if self._teacher is None or not isinstance(self._settings, FinetuneConfig):
            return loss
        with torch.inference_mode():
            answer = self._teacher(images)
        soft = imitation(logits.float(), answer.float(), self._settings.temperature)
        return (1 - self._imitated) * loss + self._imitated * soft

    def _train_mode(self) -> None:
        self._module.train()
        if self._frozen:
            batch_norm.freeze(self._module)

    def _set_rate(self, progress: float) -> None:
        for group in self._optimiser.param_groups:
            group["lr"] = self._settings.learning_rate * schedule.rate(progress, self._settings.warmup)

    def _looks(self, step: int) -> bool:
        """Whether the loss is looked at after this step: not always where that means waiting for a GPU or others."""
        waits = self._team.size > 1 or self._team.device.type != "cpu"
        return not waits or step % _LOOK_EVERY == 0 or step == self._steps - 1

    def _checked(self, loss: torch.Tensor, epoch: int) -> float:
        """The loss of all processes together. Raises: ConfigError if it is no number."""
        number = float(self._team.total(loss))
        if not math.isfinite(number):
            raise ConfigError(
                f"training diverged in epoch {epoch + 1}: the loss is {number}; lower {_section(self._settings)}"
                ".learning_rate"
            )
        return number

    def _tell(self, epoch: int, step: int, loss: float, progress: Progress | None) -> None:
        if progress is not None:
            judged = self._epochs[-1].validation_accuracy if self._epochs else None
            tail = "" if judged is None else f", {judged:.1%} right on validation images"
            done = epoch * self._steps + step + 1
            progress(done, self._total, f"epoch {epoch + 1} of {self._settings.epochs}, loss {loss:.3f}{tail}")

    # ------------------------------------------------------------------------------------------------- what it gave

    @property
    def _result(self) -> nn.Module:
        """The network that would count now."""
        return self._module if self._average is None else self._average.network

    def _judged(self) -> float | None:
        """Share of right answers on the images set aside, if any were; batch norms are re-estimated before."""
        last = len(self._epochs) + 1 == self._settings.epochs
        if self._settings.reestimate and not self._frozen and (last or len(self._validation)):
            chosen = torch.randperm(len(self._positions), generator=torch.Generator().manual_seed(self._seed))
            sample = self._positions[chosen[: self._settings.reestimate].numpy()]
            batch_norm.reestimate(self._result, self._batches(in_order(sample, self._batch)))
        if not len(self._validation):
            return None
        parts = [part[self._team.share] for part in in_order(self._validation, _JUDGED_AT_ONCE)]
        right = torch.zeros((), dtype=torch.int64, device=self._team.device)
        network = self._result.eval()
        with torch.inference_mode(), self._arithmetic.autocast():
            for part, images in zip(parts, self._batches(parts), strict=True):
                labels = self._labels[part.to(self._team.device)]
                right += (network(images).argmax(1) == labels).sum() if len(part) else 0
        return int(self._team.total(right)) / len(self._validation)

    def _batches(self, parts: list[torch.Tensor]) -> Iterator[torch.Tensor]:
        for images in self._images.batches(parts, self._team.device):
            yield images.contiguous(memory_format=torch.channels_last)

    def history(self) -> History:
        """What came of it so far."""
        asked = self._settings.epochs or 0
        return History(
            schema=SCHEMA,
            epochs=tuple(self._epochs),
            best_epoch=self._judge.best_epoch or len(self._epochs),
            asked_epochs=asked,
            stopped_early=self._judge.impatient and len(self._epochs) < asked,
            images=len(self._positions),
            validation_images=len(self._validation),
            batch_norms="frozen" if self._frozen else "trained",
            device=str(self._team.device),
            precision=self._arithmetic.name,
            processes=self._team.size,
        )

    # ----------------------------------------------------------------------------------------------------- resuming

    def save(self, path: Path) -> None:
        """Writes what is needed to go on from here: all or nothing."""
        state = {
            "identity": self._identity,
            "module": self._module.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "average": None if self._average is None else self._average.state_dict(),
            "arithmetic": self._arithmetic.state_dict(),
            "judge": asdict(self._judge),
            "best": self._best,
            "epochs": [asdict(epoch) for epoch in self._epochs],
        }
        resuming.save(path, state)

    def resume(self, path: Path | None) -> None:
        """Takes over a checkpoint of this very training, which the first process reads, if there is one."""
        state = self._team.told(resuming.read(path, self._identity))
        if state is None:
            return
        self._module.load_state_dict(state["module"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._arithmetic.load_state_dict(state["arithmetic"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        self._judge, self._best = Judge(**state["judge"]), state["best"]
        self._epochs = [Epoch(**epoch) for epoch in state["epochs"]]


def _placed(module: nn.Module, device: torch.device) -> nn.Module:
    """The module itself, on the device, in the order of memory that convolutions like."""
    placed: nn.Module = module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return placed


def _batch_size(wanted: int, images: int, processes: int) -> int:
    batch = min(wanted, images)
    if processes > 1 and batch < 2 * processes:
        raise ConfigError(f"batches of {batch} images are too small for {processes} processes; start fewer")
    return batch


def _frozen(module: nn.Module, settings: Settings) -> bool:
    """Whether batch norms keep their statistics: as a FinetuneConfig says. From scratch they must be learnt."""
    if not isinstance(settings, FinetuneConfig):
        return False
    return settings.batch_norm == "frozen" or (settings.batch_norm == "auto" and batch_norm.trivial(module))


def _section(settings: Settings) -> str:
    return "finetune" if isinstance(settings, FinetuneConfig) else "train"


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

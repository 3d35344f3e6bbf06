"""Training of a classifier, from scratch or after the cut (He et al. 2018, section 4: fine-tuning).

Stochastic gradient descent with Nesterov momentum, warm-up and cosine; a part of the loss may imitate the original
network; a moving average of the weights is what counts at the end, or what is best on images set aside. Every epoch
draws its random numbers from the seed and its own number, so that a resumed training equals an uninterrupted one.
Several processes (see `parallel`) share every batch and compute what one would, up to rounding.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from amc_mobile.device.protocol import Progress
from amc_mobile.errors import ConfigError, DataError
from amc_mobile.runs import write_json
from amc_mobile.sections.finetune import FinetuneConfig
from amc_mobile.train import batch_norm, resuming
from amc_mobile.train.augment import augmented, draw
from amc_mobile.train.batches import ImageSource, InMemory, in_order, shuffled
from amc_mobile.train.history import SCHEMA, Epoch, History
from amc_mobile.train.parallel import Team, together
from amc_mobile.train.step import Settings, Stepper
from amc_mobile.train.teacher import ModuleTeacher, Teacher
from amc_mobile.train.validation import Judge, set_aside

_LOOK_EVERY = 20  # steps between looks at the loss where looking means waiting: on a GPU, or for other processes
_JUDGED_AT_ONCE = 256  # images


def fit(
    module: nn.Module,
    images: np.ndarray | ImageSource,
    labels: np.ndarray,
    settings: Settings,
    *,
    seed: int,
    teacher: nn.Module | Teacher | None = None,
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
    imitated = ModuleTeacher(teacher) if isinstance(teacher, nn.Module) else teacher
    work = partial(_fit, module, source, labels, settings, seed, imitated, after_step)
    return together(work, progress=progress, path=checkpoint, record=record)


def _fit(
    module: nn.Module,
    images: ImageSource,
    labels: np.ndarray,
    settings: Settings,
    seed: int,
    teacher: Teacher | None,
    after_step: Callable[[nn.Module], None] | None,
    team: Team,
    progress: Progress | None = None,
    path: Path | None = None,
    record: Path | None = None,
) -> nn.Module:
    """This process's share of the training: see `fit`."""
    try:
        run = _Run(module, images, labels, settings, seed, teacher, after_step, team)
        run.resume(path)
        with batch_norm.synchronised(run.networks, team.group):
            while not run.finished:
                run.epoch(progress)
                if team.leads and path is not None:
                    run.save(path)
                _note(record, run, team)
        run.take_result()
        _note(record, run, team)  # also where the last epoch was taken from the checkpoint
    finally:
        module.to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        module.eval()
    return module


class _Run:
    """One training: the module with its optimiser, the images, and what is known of the epochs so far."""

    def __init__(
        self,
        module: nn.Module,
        images: ImageSource,
        labels: np.ndarray,
        settings: Settings,
        seed: int,
        teacher: Teacher | None,
        after_step: Callable[[nn.Module], None] | None,
        team: Team,
    ) -> None:
        taught = None if teacher is None else teacher.identity()
        self._identity = resuming.identity(module, labels, settings, images.identity(), taught, seed, team.size)
        self._stepper = Stepper(module, settings, team, teacher, after_step)
        self._images, self._settings, self._seed, self._team = images, settings, seed, team
        self._labels = torch.from_numpy(np.ascontiguousarray(labels, np.int64)).to(team.device)
        self._positions, self._validation = set_aside(len(images), settings.validation_images, seed)
        self._batch = _batch_size(settings.batch_size, len(self._positions), team.size)
        self._steps = len(self._positions) // self._batch  # per epoch
        self._asked = settings.epochs or 0
        self._judge = Judge(settings.patience)
        self._best: dict[str, torch.Tensor] | None = None
        self._epochs: list[Epoch] = []

    @property
    def networks(self) -> list[nn.Module]:
        """The module, and the average of its weights if there is one."""
        return list(dict.fromkeys([self._stepper.module, self._stepper.result]))

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or it is enough."""
        return len(self._epochs) >= self._asked or self._judge.impatient

    def epoch(self, progress: Progress | None) -> None:
        """Trains for one epoch and takes note of how good the network is then."""
        start = time.monotonic()
        loss = self._pass(len(self._epochs), progress)
        seconds = time.monotonic() - start
        number, speed = len(self._epochs) + 1, self._steps * self._batch / seconds
        self._reestimate(number)
        accuracy = self._accuracy() if len(self._validation) else None
        self._epochs.append(Epoch(number, loss, accuracy, self._stepper.rate, round(seconds, 3), round(speed, 1)))
        if accuracy is not None and self._judge.improved(number, accuracy):
            self._best = {name: tensor.clone() for name, tensor in self._stepper.result.state_dict().items()}

    def take_result(self) -> None:
        """The module becomes what counts: the average of its weights, at the best epoch if there was a judge."""
        state = self._stepper.result.state_dict() if self._best is None else self._best
        if self._epochs:
            self._stepper.module.load_state_dict(state)

    # ---------------------------------------------------------------------------------------------------- one epoch

    def _pass(self, epoch: int, progress: Progress | None) -> float:
        """One pass over the images, in a new order. Returns: the mean loss. Raises: ConfigError if it is no number."""
        device, share = self._team.device, self._team.share
        chance = torch.Generator().manual_seed(self._seed * 1_000_003 + epoch)  # of the order and the augmentation
        mine = [part[share] for part in shuffled(self._positions, self._batch, chance)]
        losses = torch.zeros((), dtype=torch.float64, device=device)
        self._stepper.train_mode()
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed((self._seed * 1_000_003 + epoch) * 1_009 + self._team.rank)  # of dropout and the like
            for step, images in enumerate(self._images.batches(mine, device), start=epoch * self._steps):
                changes = draw(self._batch, self._settings.shift, self._settings.flip, chance).share(share)
                labels = self._labels[mine[step % self._steps].to(device)]
                done = step / (self._steps * self._asked)
                loss = self._stepper.step(augmented(images, changes), labels, len(images) / self._batch, done)
                losses += loss
                if self._looks(step):
                    self._tell(step, self._checked(loss, epoch), progress)
        return self._checked(losses, epoch) / self._steps

    def _looks(self, step: int) -> bool:
        """Whether the loss is looked at after this step: not always where that means waiting for a GPU or others."""
        waits = self._team.size > 1 or self._team.device.type != "cpu"
        return not waits or step % _LOOK_EVERY == 0 or (step + 1) % self._steps == 0

    def _checked(self, loss: torch.Tensor, epoch: int) -> float:
        """The loss of all processes together. Raises: ConfigError if it is no number."""
        number = float(self._team.total(loss))
        if not math.isfinite(number):
            section = "finetune" if isinstance(self._settings, FinetuneConfig) else "train"
            raise ConfigError(
                f"training diverged in epoch {epoch + 1}: the loss is {number}; lower {section}.learning_rate"
            )
        return number

    def _tell(self, step: int, loss: float, progress: Progress | None) -> None:
        if progress is None:
            return
        judged = self._epochs[-1].validation_accuracy if self._epochs else None
        tail = "" if judged is None else f", {judged:.1%} right on validation images"
        what = f"epoch {step // self._steps + 1} of {self._asked}, loss {loss:.3f}{tail}"
        progress(step + 1, self._steps * self._asked, what)

    # -------------------------------------------------------------------------------------------- how good it is now

    def _reestimate(self, epoch: int) -> None:
        """Takes the batch norms' statistics anew, if the settings want it and the network is about to be judged."""
        wanted = self._settings.reestimate
        if not wanted or self._stepper.frozen or not (len(self._validation) or epoch == self._asked):
            return
        order = np.random.default_rng(self._seed).permutation(self._positions)
        parts = in_order(order[: max(wanted, 2 * self._team.size)], self._batch)
        whole = [part[self._team.share] for part in parts if len(part) == len(parts[0])]
        batch_norm.reestimate(self._stepper.result, self._batches(whole))

    def _accuracy(self) -> float:
        """Share of right answers on the images set aside. Every process counts on its own share of them."""
        parts = [part[self._team.share] for part in in_order(self._validation, _JUDGED_AT_ONCE)]
        parts = [part for part in parts if len(part)]
        right = torch.zeros((), dtype=torch.int64, device=self._team.device)
        network, training = self._stepper.result, self._stepper.result.training
        network.eval()
        with torch.inference_mode(), self._stepper.arithmetic.autocast():
            for part, images in zip(parts, self._batches(parts), strict=True):
                right += (network(images).argmax(1) == self._labels[part.to(self._team.device)]).sum()
        network.train(training)
        return int(self._team.total(right)) / len(self._validation)

    def _batches(self, parts: list[torch.Tensor]) -> Iterator[torch.Tensor]:
        for images in self._images.batches(parts, self._team.device):
            yield images.contiguous(memory_format=torch.channels_last)

    def history(self) -> History:
        """What came of it so far."""
        return History(
            schema=SCHEMA,
            epochs=tuple(self._epochs),
            best_epoch=self._judge.best_epoch or len(self._epochs),
            asked_epochs=self._asked,
            stopped_early=self._judge.impatient and len(self._epochs) < self._asked,
            images=len(self._positions),
            validation_images=len(self._validation),
            batch_norms="frozen" if self._stepper.frozen else "trained",
            device=str(self._team.device),
            precision=self._stepper.arithmetic.name,
            processes=self._team.size,
        )

    # ----------------------------------------------------------------------------------------------------- resuming

    def save(self, path: Path) -> None:
        """Writes what is needed to go on from here: all or nothing."""
        state = {
            "identity": self._identity,
            "stepper": self._stepper.state_dict(),
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
        self._stepper.load_state_dict(state["stepper"])
        self._judge, self._best = Judge(**state["judge"]), state["best"]
        self._epochs = [Epoch(**epoch) for epoch in state["epochs"]]


def _note(record: Path | None, run: _Run, team: Team) -> None:
    if team.leads and record is not None:
        write_json(record, run.history())


def _batch_size(wanted: int, images: int, processes: int) -> int:
    batch = min(wanted, images)
    if processes > 1 and batch < 2 * processes:
        raise ConfigError(f"batches of {batch} images are too small for {processes} processes; start fewer")
    return batch

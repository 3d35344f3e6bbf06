"""A run's pruned backbone on other images: new classifiers, the same training for all, accuracy and time.

Every network and seed is finished on its own, its answers are kept in `answers/`, and what is finished is not done
again.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from amc_mobile.cli.console import note, progress_line
from amc_mobile.cli.contenders import channels_of, module_of, sources
from amc_mobile.cli.inputs import identity
from amc_mobile.cli.originals import PARITY
from amc_mobile.cli.settings import flat
from amc_mobile.errors import GraphError
from amc_mobile.report import wording as say
from amc_mobile.report.transfer import LABELS
from amc_mobile.runs import RunFolder, read_json, write_bytes, write_json

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from amc_mobile.cli.session import Session
    from amc_mobile.config import ContenderName, TransferConfig
    from amc_mobile.device.protocol import Progress
    from amc_mobile.models.evaluation import BatchEvaluator
    from amc_mobile.models.splits import Split
    from amc_mobile.models.zoo import ModelEntry
    from amc_mobile.sections.finetune import TransferFinetuneConfig
    from amc_mobile.train.batches import ImageSource

_VERSION = 2  # raised when answers change their meaning, so that older ones are made again
_UNITS = 1000  # of progress for training the original once
_PARITY_IMAGES = 8


@dataclass(frozen=True, slots=True)
class Job:
    """One network to be trained once. The networks of the first seed are kept, of the others only their answers."""

    name: ContenderName
    seed: int
    first: bool


class Trainings:
    """All trainings of one transfer, in its folder."""

    def __init__(self, session: Session, config: TransferConfig, splits: tuple[Split, Split]) -> None:
        self.folder = RunFolder(config.out)
        self.session = session
        self.config = config
        self.train, self.test = splits
        self.seeds = tuple(config.seed + number for number in range(config.seeds))
        self.jobs = tuple(Job(name, seed, seed == config.seed) for seed in self.seeds for name in config.contenders())

    @cached_property
    def entry(self) -> ModelEntry:
        """The run's network, with the classes of the other images."""
        return replace(self.session.entry, classes=self.train.images.classes)

    def place(self, name: ContenderName) -> RunFolder:
        """Where the contender's files are: the pruned network's in the transfer's folder itself."""
        return self.folder if name == "pruned" else RunFolder(self.folder.root / name)

    def answers(self, job: Job) -> dict[str, Any] | None:
        """What the network of a finished job answered; None for one that is to be done."""
        path, place = self._answers_file(job), self.place(job.name)
        if not path.is_file() or (job.first and not (place.weights.is_file() and place.model_onnx.is_file())):
            return None
        found: dict[str, Any] = read_json(path)
        return found if found.get("inputs") == self._inputs(job) else None

    def right(self, name: ContenderName) -> np.ndarray:
        """Which test images the contender answered right, bool (seeds, images). All of its jobs are finished."""
        rows = []
        for job in (job for job in self.jobs if job.name == name):
            row = np.ones(len(self.test), bool)
            row[read_json(self._answers_file(job))["wrong"]] = False
            rows.append(row)
        return np.stack(rows)

    def run(self) -> None:
        """Does the jobs that are not finished."""
        todo = [job for job in self.jobs if self.answers(job) is None]
        if len(todo) < len(self.jobs):
            note(f"  transfer  {len(self.jobs) - len(todo)} of {len(self.jobs)} trainings done before")
        if not todo:
            return
        sizes = {job: self._size(job.name) for job in self.jobs}
        total, done = sum(sizes.values()), sum(sizes[job] for job in self.jobs if job not in todo)
        if any(job.name == "uniform" for job in todo):  # before the estimate begins: it has a progress of its own
            module_of(self.session, "uniform", self._made("uniform"), self.config.seed)
        with progress_line("transfer") as progress:
            for job in todo:
                self._do(job, _share(progress, done, sizes[job], total, _title(job, len(self.seeds))))
                done += sizes[job]

    def _do(self, job: Job, progress: Progress) -> None:
        from amc_mobile.prune.classifier import classifiers, reclassify
        from amc_mobile.train.fit import fit

        start, entry = time.monotonic(), self.entry
        module = module_of(self.session, job.name, self._made(job.name), job.seed)
        reclassify(module, classifiers(self.session.traced), entry.input_shape, entry.classes, seed=job.seed)
        partial = self.folder.root / f"{job.name}-{job.seed}.partial"
        progress(0, 1, "")
        fit(
            module,
            self._train_images,
            self.train.labels,
            self._settings(job),
            seed=job.seed,
            progress=progress,
            checkpoint=partial,
        )
        self._keep(job, module, time.monotonic() - start)
        partial.unlink(missing_ok=True)

    def _keep(self, job: Job, module: nn.Module, seconds: float) -> None:
        """Exports, checks and tests the network; writes its files if it is of the first seed, then its answers."""
        from amc_mobile.cost.price import price
        from amc_mobile.export.to_onnx import export, parity
        from amc_mobile.graph.trace import trace
        from amc_mobile.models.outcomes import Judge

        model = export(module, self.entry.input_shape)
        some = replace(self.train, indices=self.train.indices[:_PARITY_IMAGES])
        gap = parity(module, model, some.tensors(self.entry.preprocessing))
        if gap > PARITY:
            raise GraphError(
                f"the exported network ({LABELS[job.name]}) differs from PyTorch by {gap:.1e} of the largest logit; "
                "check that it has no random or training-only step in eval mode"
            )
        outcomes = Judge(self.test.labels).outcomes([self._evaluator.logits(model)])
        network = trace(model, self.entry.name).network
        if job.first:
            self._ship(job, module, model)
        answers = self._answers_file(job)
        answers.parent.mkdir(exist_ok=True)
        write_json(
            answers,
            {
                "inputs": self._inputs(job),
                "images": len(self.test),
                "wrong": np.flatnonzero(outcomes.ranks >= 1).tolist(),  # by their places among the test images
                "parity": gap,
                "cost": price(network, network.full()),
                "seconds": round(seconds, 2),
            },
        )

    def _ship(self, job: Job, module: nn.Module, model: onnx.ModelProto) -> None:
        """Writes policy.json, weights.pt and model.onnx: with the classes of today in the group of the answers."""
        from amc_mobile.prune.classifier import answering
        from amc_mobile.prune.saved import save

        place = self.place(job.name).create()
        channels = channels_of(self.session, job.name)
        network, channels = answering(self.session.traced, channels, self.entry.classes)
        save(place, module, self.entry, network, channels)
        write_bytes(place.model_onnx, model.SerializeToString())

    def _settings(self, job: Job) -> TransferFinetuneConfig:
        """Those of all; but batch norms without a past must estimate, however trivial they look."""
        settings = self.config.finetune
        return settings.model_copy(update={"batch_norm": "train"}) if job.name == "scratch" else settings

    def _size(self, name: ContenderName) -> int:
        """How much work one training is, by its MACs."""
        from amc_mobile.cost.formulas import macs

        network = self.session.traced.network
        kept = [len(stay) for stay in channels_of(self.session, name)]
        return max(1, round(_UNITS * macs(network, kept) / macs(network, network.full().kept)))

    def _made(self, name: ContenderName) -> Path:
        """The file of a network that takes long to make, for all transfers of the run; by what it was made from."""
        digest = hashlib.sha256(json.dumps(sources(self.session, name), sort_keys=True).encode()).hexdigest()[:8]
        return self.session.folder.root / "transfer" / f"{name}-{digest}.pt"

    def _answers_file(self, job: Job) -> Path:
        return self.folder.root / "answers" / f"{job.name}-{job.seed}.json"

    def _inputs(self, job: Job) -> str:
        """A digest of all that the job's result follows from."""
        settings = {
            path: identity(path, value)
            for path, value in flat(self.config).items()
            if path == "seed" or path.startswith(("data.", "finetune."))
        }
        whole = [_VERSION, job.name, job.seed, settings, sources(self.session, job.name), self._shown]
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:16]

    @cached_property
    def _shown(self) -> str:
        """A digest of which images are learnt from and tested on, and of how they are prepared.

        A folder that pictures were added to since has other ones, though it is called the same.
        """
        digest = hashlib.sha256(repr(self.entry.preprocessing).encode())
        for part in (self.train, self.test):
            digest.update(f"{len(part.images)} {part.images.class_names}".encode())
            digest.update(part.indices.astype(np.int64).tobytes())
            digest.update(part.labels.astype(np.int64).tobytes())
        return digest.hexdigest()[:16]

    @cached_property
    def _train_images(self) -> ImageSource:
        from amc_mobile.train.batches import training_images

        return training_images(self.train, self.entry.preprocessing)

    @cached_property
    def _evaluator(self) -> BatchEvaluator:
        from amc_mobile.models.evaluation import open_evaluator

        images = self.test.tensors(self.entry.preprocessing)
        return open_evaluator(images, self.test.labels, self.session.threads, name="onnxruntime")


def _share(progress: Progress, before: int, size: int, total: int, title: str) -> Progress:
    """Progress of one job as a part of all of them."""

    def report(done: int, steps: int, what: str) -> None:
        progress(before + size * done // steps, total, f"{title}{', ' * bool(what)}{what}")

    return report


def _title(job: Job, seeds: int) -> str:
    return say.plain_ascii(LABELS[job.name] + (f", seed {job.seed}" if seeds > 1 else ""))

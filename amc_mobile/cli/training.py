"""Training the pruned network, whatever was pruned of it: one call for all stages that fine-tune."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import nn

    from amc_mobile.cli.session import Session
    from amc_mobile.device.protocol import Progress
    from amc_mobile.sections.finetune import FinetuneConfig
    from amc_mobile.sections.train import TrainConfig
    from amc_mobile.train.teacher import Teacher


def trained(
    session: Session,
    module: nn.Module,
    progress: Progress,
    after_step: Callable[[nn.Module], None] | None = None,
    checkpoint: Path | None = None,
) -> nn.Module:
    """The module after the run's epochs, with the original as a teacher; without epochs as it is.

    `after_step` is called with the module after each step of the optimiser. `checkpoint` is the file from which an
    interrupted training goes on; None: the run's own, with the record of its epochs.
    """
    from amc_mobile.export.weights import freeze_unstored

    config, folder = session.config, session.folder
    if config.finetune.epochs == 0:
        return module
    freeze_unstored(module, session.original_onnx)
    partial = checkpoint or folder.root / "finetune.partial"
    record = folder.finetuning if checkpoint is None else None
    if session.entry.task == "detection":
        return _fit(session, module, config.finetune, progress, partial, record, after_step=after_step)
    from amc_mobile.train.teacher import fast_teacher

    teacher = fast_teacher(session.original, session.original_onnx, session.threads)
    return _fit(session, module, config.finetune, progress, partial, record, teacher, after_step)


def from_scratch(session: Session, module: nn.Module, progress: Progress) -> nn.Module:
    """The original after the epochs that [train] says."""
    files = session.folder.root / "train.partial", session.folder.training
    return _fit(session, module, session.config.training, progress, *files)


def _fit(
    session: Session,
    module: nn.Module,
    settings: TrainConfig | FinetuneConfig,
    progress: Progress,
    checkpoint: Path,
    record: Path | None,
    teacher: Teacher | None = None,
    after_step: Callable[[nn.Module], None] | None = None,
) -> nn.Module:
    """Trains for what the network is for. A detector learns from boxes alone, without a teacher."""
    from amc_mobile.train.batches import training_images

    split, seed = session.splits.train, session.config.seed
    images = training_images(split, session.preprocessing)
    if session.entry.task == "detection":
        from amc_mobile.train.detector import fit_detector

        return fit_detector(
            module,
            images,
            split.labels,
            settings,
            seed=seed,
            progress=progress,
            checkpoint=checkpoint,
            record=record,
            after_step=after_step,
        )
    from amc_mobile.train.fit import fit

    return fit(
        module,
        images,
        split.labels,
        settings,
        seed=seed,
        teacher=teacher,
        progress=progress,
        checkpoint=checkpoint,
        record=record,
        after_step=after_step,
    )

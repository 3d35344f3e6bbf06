"""Training the pruned network, whatever was pruned of it: one call for all stages that fine-tune."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from amc_mobile.cli.session import Session
    from amc_mobile.device.protocol import Progress


def trained(
    session: Session, module: nn.Module, progress: Progress, after_step: Callable[[nn.Module], None] | None = None
) -> nn.Module:
    """The module after the run's epochs, with the original as a teacher; without epochs as it is.

    `after_step` is called with the module after each step of the optimiser.
    """
    from amc_mobile.export.weights import freeze_unstored
    from amc_mobile.train.batches import training_images
    from amc_mobile.train.fit import fit

    config = session.config
    if config.finetune.epochs == 0:
        return module
    freeze_unstored(module, session.original_onnx)
    split = session.splits.train
    return fit(
        module,
        training_images(split, session.preprocessing),
        split.labels,
        config.finetune,
        seed=config.seed,
        teacher=session.original,
        progress=progress,
        checkpoint=session.folder.root / "finetune.partial",
        record=session.folder.finetuning,
        after_step=after_step,
    )

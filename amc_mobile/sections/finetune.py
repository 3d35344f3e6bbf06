"""[finetune]: training after the cut, of a run and of a transfer."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from amc_mobile.sections.train import Training


class FinetuneConfig(Training):
    """Training after the cut. epochs = 0 leaves the repaired network as it is."""

    epochs: int = Field(0, ge=0)
    distillation: float = Field(
        0.5, ge=0, le=1, description="share of the loss that imitates the original (Hinton et al. 2015)"
    )
    temperature: float = Field(2.0, gt=0, description="softens both answers before they are compared")
    batch_norm: Literal["auto", "train", "frozen"] = Field(
        "auto",
        description="'frozen': statistics stay; 'auto': frozen where they were never estimated, all variances being 1",
    )


class TransferFinetuneConfig(FinetuneConfig):
    """Training on other images: without epochs the new classifier knows nothing, and nobody knows how to teach it."""

    epochs: int = Field(10, ge=1)
    learning_rate: float = Field(0.05, gt=0, description="at its peak; more than to recover: the images are new")
    distillation: float = Field(0.0, ge=0, le=0, description="always 0: the original does not know these classes")

"""[train]: training the original from scratch, and what all training has in common."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from amc_mobile.sections.section import Section


class Training(Section):
    """Stochastic gradient descent with momentum: what training and fine-tuning share."""

    learning_rate: float = Field(0.01, gt=0, description="at its peak")
    batch_size: int = Field(64, ge=1, description="of all processes together")
    momentum: float = Field(0.9, ge=0, lt=1, description="Nesterov's")
    weight_decay: float = Field(1e-4, ge=0, description="of weights; biases and batch norms do not decay")
    warmup: float = Field(
        0.1, ge=0, lt=1, description="share of the steps in which the rate rises (Goyal et al. 2017); then a cosine"
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of each label that all classes get alike (Szegedy et al. 2016)"
    )
    ema: float = Field(
        0.999,
        ge=0,
        lt=1,
        description="moving average of the weights, which is what counts; after t steps at most (1 + t) / (10 + t); "
        "0: none (Polyak and Juditsky 1992)",
    )
    clip: float | None = Field(
        None,
        gt=0,
        description="largest norm of a step's gradient (Pascanu et al. 2013); none: 1 where batch norms are frozen, "
        "10 for detectors, else no limit",
    )
    shift: int = Field(2, ge=0, description="pixels by which training images are moved at random")
    flip: bool = Field(False, description="mirror training images half of the time")
    validation_images: int = Field(
        0, ge=0, description="training images set aside; the epoch that is best on them counts; 0: the last epoch"
    )
    patience: int | None = Field(
        None, ge=1, description="stop after so many epochs without a better validation accuracy; none: never"
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="of the arithmetic; 'auto': bf16 (else fp16) on a GPU, fp32 on the CPU"
    )
    reestimate: int = Field(
        0, ge=0, description="training images from which batch norms' statistics are taken anew at the end; 0: none"
    )

    def of_classifiers(self) -> tuple[str, ...]:
        """The settings that are made and that the training of a detector does not know."""
        default = type(self)()
        none: dict[str, tuple[object, ...]] = {
            "label_smoothing": (0.0,),
            "validation_images": (0,),
            "precision": ("auto", "fp32"),
            "reestimate": (0,),
            "distillation": (0.0, getattr(default, "distillation", None)),
            "temperature": (getattr(default, "temperature", None),),
        }
        return tuple(name for name, values in none.items() if getattr(self, name, values[0]) not in values)

    @model_validator(mode="after")
    def _patience_needs_a_judge(self) -> Self:
        if self.patience is not None and self.validation_images == 0:
            raise ValueError("patience needs validation_images: set some aside, for example 1000")
        return self


class TrainConfig(Training):
    """Training of the original from scratch, where no weights are given."""

    epochs: int | None = Field(
        None, ge=0, description="0: taken as it is built; none: the network's own recipe (digits), else 0"
    )
    learning_rate: float = Field(0.1, gt=0, description="at its peak")
    batch_size: int = Field(128, ge=1, description="of all processes together")
    weight_decay: float = Field(5e-4, ge=0, description="of weights; biases and batch norms do not decay")
    warmup: float = Field(
        0.2, ge=0, lt=1, description="share of the steps in which the rate rises (Goyal et al. 2017); then a cosine"
    )


RECIPES = {  # of networks that are trained in seconds wherever they are asked for without weights
    "digits": TrainConfig(epochs=12, learning_rate=0.05, batch_size=32, weight_decay=1e-4, ema=0.0)
}

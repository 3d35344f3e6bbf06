"""[model]: the network."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from amc_mobile.sections.section import Section
from amc_mobile.types import TaskName

DETECTORS = ("ssd300_", "ssdlite", "fasterrcnn_")  # how the names of torchvision's begin


class ModelConfig(Section):
    """Which trained network."""

    name: str = Field("digits", description="a network's name, your own package.module:function, or FILE.onnx")
    weights: Path | None = Field(None, description="state_dict file; none: train as [train] says")
    mean: list[float] | None = Field(None, description="per channel, of pixels in 0..1; none: what the network expects")
    std: list[float] | None = Field(None, description="per channel, of pixels in 0..1; none: what the network expects")
    task: TaskName | None = Field(None, description="none: 'detection' for torchvision's detectors by name")
    classes: int | None = Field(None, ge=1, description="of a detector, without the background; none: as published")
    image_size: int | None = Field(
        None, ge=32, description="height and width that a detector reads; none: as published"
    )
    skip: list[str] = Field([], description="layers that keep all their channels, in and out; `amc graph` names them")

    @property
    def onnx(self) -> Path | None:
        """The ONNX file, where that is all there is of the network."""
        return Path(self.name) if Path(self.name).suffix == ".onnx" else None

    @property
    def purpose(self) -> TaskName:
        """What the network is for."""
        by_name: TaskName = "detection" if self.name.startswith(DETECTORS) else "classification"
        return self.task or by_name

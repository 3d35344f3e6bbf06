"""[device]: where the network must be fast."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from amc_mobile.sections.section import Section
from amc_mobile.types import Precision


class DeviceConfig(Section):
    """Where the network must be fast."""

    name: str = Field(
        "host",
        description="'host', 'cuda', 'cuda:1', 'cuda-ort', or a phone: its alias in devices.toml, serial number, "
        "HOST:PORT, or part of its model's name",
    )
    threads: int = Field(1, ge=1, le=64)
    precision: Precision = Field("fp32", description="'int8': static QDQ, on CPUs; 'fp16', 'bf16': on GPUs")
    batch: int = Field(1, ge=1, description="images that run at once")
    cores: list[int] | None = Field(
        None, description="measure on these cores only; none: where the system likes, on a phone its strongest cores"
    )
    provider: Literal["cpu", "xnnpack", "nnapi", "qnn"] = Field("cpu", description="of a phone's ONNX Runtime")
    optimisation: Literal["all", "extended", "basic"] = Field("all", description="ONNX Runtime graph optimisation")
    round_to: int | None = Field(None, ge=1, description="what suits this device; none: search.round_to")
    min_keep_ratio: float | None = Field(None, gt=0.0, le=1.0, description="none: search.min_keep_ratio")

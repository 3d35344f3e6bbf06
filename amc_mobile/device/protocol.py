"""The seam between measuring and the rest: what can time ONNX models is a Device, and nobody above can tell which."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from amc_mobile.errors import DeviceError
from amc_mobile.measurements import Conditions, DeviceInfo, Measurement, TimingJob, TimingProtocol

Progress = Callable[[int, int, str], None]  # (done, total, what): for a progress line with an estimate


class ModelsFailed(DeviceError):
    """Some of the models do not load or run, or take the runtime down with them; those of the others are kept.

    `reasons` says by label why, `measured` holds what the other jobs gave, by label.
    """

    def __init__(self, message: str, reasons: Mapping[str, str], measured: Mapping[str, Measurement]) -> None:
        super().__init__(message)
        self.reasons = reasons
        self.measured = measured


class Device(Protocol):
    """Something that runs ONNX models and reads a clock."""

    def info(self) -> DeviceInfo:
        """Who it is, and with which runtime and settings it measures."""
        ...

    def conditions(self) -> Conditions:
        """How it feels now: load, clocks, heat, battery."""
        ...

    def time_models(
        self, jobs: Sequence[TimingJob], protocol: TimingProtocol, progress: Progress | None = None
    ) -> list[Measurement]:
        """Times several models, interleaved and shuffled round by round. Answers in the order of the jobs.

        A campaign hands in the same models again and again: a device that must be sent them keeps what it has got.
        Node times name the tensors of the model as it was handed in, as far as the runtime lets them be traced back.

        Raises: DeviceError if a model does not load or the device is lost; ModelsFailed where the others were timed.
        """
        ...

"""[budget]: the limits, on the device of the run and on further ones."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationInfo, field_validator

from amc_mobile.amounts import Amount, parse
from amc_mobile.sections.section import Section
from amc_mobile.types import Metric

BUDGET_METRICS: dict[str, Metric] = {
    "latency": "latency_us",
    "macs": "macs",
    "params": "params",
    "bytes": "bytes",
    "memory": "memory_bytes",
}  # what each setting of a budget limits


class FurtherDevice(Section):
    """A limit on the latency on one more device, by its table of this network."""

    table: Path
    latency: float | str = Field(description="a share of the original's latency there, or a time such as '20ms'")
    name: str | None = Field(None, description="none: the name in the table")
    round_to: int | None = Field(None, ge=1, description="what suits this device; none: any")
    min_keep_ratio: float | None = Field(None, gt=0.0, le=1.0, description="none: any")

    @field_validator("latency")
    @classmethod
    def _is_an_amount(cls, written: float | str) -> float | str:
        return _normal(written, "latency_us")

    def limit(self) -> Amount:
        """The limit as a number."""
        return parse(self.latency, "latency_us")


class BudgetConfig(Section):
    """The limits, all of which hold at once: shares of the original network's cost, or amounts with a unit."""

    latency: float | str | None = Field(None, description="a share, or a time: 0.5, '20ms', '800us'")
    macs: float | str | None = Field(None, description="a share, or a count: 0.5, '150M'")
    params: float | str | None = Field(None, description="a share, or a count: 0.5, '2M'")
    bytes: float | str | None = Field(None, description="of the ONNX file; a share, or a size: 0.5, '8MB', '8MiB'")
    memory: float | str | None = Field(None, description="peak of the activations; a share, or a size: 0.5, '3MB'")
    also: list[FurtherDevice] = Field([], description="limits on the latency on further devices")

    @field_validator("latency", "macs", "params", "bytes", "memory")
    @classmethod
    def _is_an_amount(cls, written: float | str | None, info: ValidationInfo) -> float | str | None:
        return None if written is None else _normal(written, BUDGET_METRICS[str(info.field_name)])

    def limits(self) -> dict[Metric, Amount]:
        """The limits that are set on this device, by metric."""
        written = {metric: getattr(self, name) for name, metric in BUDGET_METRICS.items()}
        return {metric: parse(value, metric) for metric, value in written.items() if value is not None}


def _normal(written: float | str, metric: Metric) -> float | str:
    """A share as a number, however it was written; an amount as it was written."""
    amount = parse(written, metric)
    return amount.value if amount.relative else str(written).strip()

"""[bench]: the comparison on the clock."""

from __future__ import annotations

from pydantic import Field

from amc_mobile.sections.section import Section


class BenchConfig(Section):
    """Original against pruned on the device: in many short rounds, as shared and warm devices change by the second."""

    rounds: int = Field(31, ge=3)
    warmups: int = Field(5, ge=1)
    runs: int = Field(10, ge=5)
    min_time_s: float = Field(0.1, ge=0.0)

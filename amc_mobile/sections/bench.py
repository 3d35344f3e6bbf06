"""[bench]: the comparison on the clock."""

from __future__ import annotations

from pydantic import Field

from amc_mobile.sections.section import Section


class BenchConfig(Section):
    """Original against pruned on the device."""

    rounds: int = Field(9, ge=3)
    warmups: int = Field(10, ge=1)
    runs: int = Field(50, ge=5)
    min_time_s: float = Field(0.5, ge=0.0)

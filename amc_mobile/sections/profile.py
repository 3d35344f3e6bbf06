"""[profile]: the latency table."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from amc_mobile.sections.section import Section


class ProfileConfig(Section):
    """How the latency table is measured (the carrier table)."""

    method: Literal["auto", "nodes", "layers"] = Field(
        "auto",
        description="'nodes': layers by the runtime's own times inside the carriers; 'layers': each layer as a model "
        "of its own, with cold caches; 'auto': nodes where the device gives their times",
    )
    carriers: int = Field(16, ge=4, description="randomly pruned variants, beside the full and the smallest network")
    rounds: int = Field(3, ge=1)
    turns: int = Field(
        7,
        ge=1,
        description="of each network in a round, interleaved with its neighbours and the full network: shared and warm "
        "devices change by the second",
    )
    warmups: int = Field(5, ge=1, description="in each turn")
    runs: int = Field(10, ge=5, description="at least, in each turn")
    min_time_s: float = Field(0.1, ge=0.0, description="at least, in each turn")
    max_error: float = Field(0.05, gt=0.0, description="refuse a table whose leave-one-out error is larger")
    tolerance: float = Field(
        0.03, ge=0.0, description="after a search the chosen network is timed; a table that is off by more is repaired"
    )
    repairs: int = Field(2, ge=0, description="at most so often; 0: the chosen network is not timed")
    force: bool = Field(False, description="use a table above max_error anyway")
    table: Path | None = Field(None, description="a table measured before on this device; none: measure now")
    elsewhere: bool = Field(False, description="the table is of a device that is not here: search for that one")

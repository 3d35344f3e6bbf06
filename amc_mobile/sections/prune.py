"""[prune]: the cut and the repair."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from amc_mobile.sections.section import Section


class PruneConfig(Section):
    """How channels are chosen and the rest is repaired."""

    importance: Literal["reconstruction", "activation", "l1", "taylor", "fpgm", "hrank"] = Field(
        "reconstruction",
        description="what least squares cannot repair; 'l1' is the paper's; single weights know the first three",
    )
    reconstruct: bool = Field(True, description="refit by least squares what is left of every layer")
    points_per_image: int = Field(30, ge=1, description="sampled output positions per calibration image (paper: 10)")
    ridge: float = Field(1e-3, ge=0, description="relative to the Gram matrix's mean diagonal")
    refresh: bool = Field(
        True, description="refit the chosen network once more, layer after layer, from what really arrives in it"
    )
    refine: int = Field(
        40,
        ge=0,
        description="networks near the winner of agent 'auto' that are judged after such a refresh; at most as many as "
        "episodes",
    )
    point: int | None = Field(None, ge=0, description="the trial that is cut and ships; none: the winner, refined")

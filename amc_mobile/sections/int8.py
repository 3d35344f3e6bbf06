"""[int8]: the networks in int8."""

from __future__ import annotations

from pydantic import Field

from amc_mobile.sections.section import Section
from amc_mobile.types import RangeChoice


class Int8Config(Section):
    """The networks in int8: static QDQ, weights per channel, ranges of activations from calibration images."""

    enabled: bool = Field(
        True, description="quantise original and pruned network, test both, and time them where the device runs fp32"
    )
    method: RangeChoice = Field(
        "minmax",
        description="range of a tensor: 'minmax': all of it; 'percentile': without the outermost values; 'mse': that "
        "with the least squared error of rounding and clipping; 'auto': whichever of them answers most like the float "
        "network on the calibration images",
    )
    calibration_images: int = Field(100, ge=1, description="of data.calibration_images, at most all of them")

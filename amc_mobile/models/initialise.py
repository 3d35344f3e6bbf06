"""Starting weights of networks that are trained from scratch."""

from __future__ import annotations

import math

from torch import nn


def initialise(module: nn.Module) -> None:
    """Sets every convolution so that the variance of the gradients stays alive with depth (He et al., ICCV 2015)."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            fan_out = part.out_channels // part.groups * math.prod(part.kernel_size)
            nn.init.normal_(part.weight, std=math.sqrt(2 / fan_out))

"""The learning rate over a training: up in a straight line, down along a cosine."""

from __future__ import annotations

import math

_START = 0.1  # of the peak


def rate(progress: float, warmup: float) -> float:
    """The learning rate as a share of its peak.

    It rises from a tenth during the first `warmup` of the steps (Goyal et al., 2017) and falls to zero along a cosine
    (Loshchilov and Hutter, ICLR 2017). `progress` in [0, 1) is the share of the steps that are done.
    """
    if progress < warmup:
        return _START + (1 - _START) * progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))

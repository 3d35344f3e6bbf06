"""The widths that pruning may choose: one rule for the search, the latency table and the profiler."""

from __future__ import annotations

import math


def width_grid(channels: int, min_keep_ratio: float, round_to: int) -> tuple[int, ...]:
    """Channel counts that a group of `channels` may keep, ascending; the last one is `channels` itself.

    Widths are multiples of the largest divisor of `round_to` that leaves eight choices, channels / 8; a group of 16 to
    32 channels makes do with four to eight, so that its widths stay multiples of 4. The reason lies in the runtimes:
    they work in blocks of 4 to 16 channels, and a convolution whose input is no multiple of 4 leaves ONNX Runtime's
    blocked layout altogether and costs more than the next wider one. No width is below `min_keep_ratio * channels`.

    >>> width_grid(64, 0.5, 8)
    (32, 40, 48, 56, 64)
    >>> width_grid(24, 0.2, 8)
    (8, 12, 16, 20, 24)
    >>> width_grid(10, 0.5, 8)
    (6, 8, 10)
    """
    choice = max(channels // 8, min(channels // 4, 4), 1)
    step = next(step for step in range(min(round_to, choice), 0, -1) if round_to % step == 0)
    smallest = _smallest(channels, min_keep_ratio)
    return (*range(math.ceil(smallest / step) * step, channels, step), channels)


def level_grid(units: int, min_keep_ratio: float, levels: int = 40) -> tuple[int, ...]:
    """At most `levels` evenly spaced counts, ascending to `units`: for single weights, of which layers have millions.

    >>> level_grid(1_000_000, 0.2, 5)
    (200000, 400000, 600000, 800000, 1000000)
    >>> level_grid(3, 0.2)
    (1, 2, 3)
    """
    smallest = _smallest(units, min_keep_ratio)
    gaps = min(levels - 1, units - smallest)
    return (*(smallest + (units - smallest) * place // gaps for place in range(gaps)), units)


def _smallest(channels: int, min_keep_ratio: float) -> int:
    return max(1, math.ceil(min_keep_ratio * channels - 1e-9))  # 0.07 * 100 is 7.000000000000001

"""The widths that pruning may choose: one rule for the search, the latency table and the profiler."""

from __future__ import annotations

import math


def width_grid(channels: int, min_keep_ratio: float, round_to: int) -> tuple[int, ...]:
    """Channel counts that a group of `channels` may keep, ascending; the last one is `channels` itself.

    Widths are multiples of the largest power of two that is at most `round_to` and leaves at least eight choices
    (`channels / 8`): runtimes work in blocks of 4 to 16 channels and odd widths are often slower than the next block.
    None is below `min_keep_ratio * channels`.

    >>> width_grid(64, 0.5, 8)
    (32, 40, 48, 56, 64)
    >>> width_grid(10, 0.5, 8)
    (5, 6, 7, 8, 9, 10)
    """
    step = 1 << (max(1, min(round_to, channels // 8)).bit_length() - 1)
    smallest = max(1, math.ceil(min_keep_ratio * channels - 1e-9))  # 0.07 * 100 is 7.000000000000001
    return (*range(math.ceil(smallest / step) * step, channels, step), channels)

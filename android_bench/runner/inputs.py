"""The inputs that the runner makes up, bit for bit (PROTOCOL.md, "Made-up inputs")."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIDDLE = 131_070  # of the sum of four 16-bit numbers
_UNIT = math.sqrt(3.0) / 65536.0


def made_up(name: str, shape: Sequence[int], dtype: DTypeLike, seed: int = 0) -> NDArray[Any]:
    """The values of the input `name`, of the given shape and type: nearly normal if they are floats, else zeros."""
    if not np.issubdtype(dtype, np.floating):
        return np.zeros(shape, dtype)
    count = math.prod(shape)
    words = _mixed(_start(name, seed) + np.arange(1, count + 1, dtype=np.uint64) * _STEP)
    sums = words.view("<u2").reshape(count, 4).sum(axis=1, dtype=np.int64) - _MIDDLE
    values: NDArray[Any] = sums * _UNIT
    if dtype == np.float16:
        values = values.astype(np.float32)  # rounded twice, as the runner does
    values = values.astype(dtype)
    return values.reshape(shape)


def _start(name: str, seed: int) -> np.uint64:
    """Where an input's words begin: its name (FNV-1a) and the seed."""
    hashed = 0xCBF29CE484222325
    for byte in name.encode():
        hashed = (hashed ^ byte) * 0x100000001B3 % 2**64
    mixed = int(_mixed(np.array([seed], np.uint64))[0])
    return np.uint64(_mixed(np.array([mixed ^ hashed], np.uint64))[0])


def _mixed(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's output function (Steele, Lea and Flood 2014)."""
    words = (words ^ words >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ words >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return words ^ words >> np.uint64(31)

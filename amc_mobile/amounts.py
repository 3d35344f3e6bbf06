"""Limits as people write them: a share of the original's cost, or an amount with its unit."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from amc_mobile.types import Metric

_COUNTS = {"k": 1e3, "M": 1e6, "G": 1e9}
_TIMES = {"us": 1.0, "µs": 1.0, "μs": 1.0, "ms": 1e3, "s": 1e6}
_SIZES = {"B": 1.0, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}
_UNITS: dict[Metric, dict[str, float]] = {
    "latency_us": _TIMES,
    "macs": _COUNTS,
    "params": _COUNTS,
    "bytes": _SIZES,
    "memory_bytes": _SIZES,
}
_EXAMPLES: dict[Metric, str] = {
    "latency_us": "a time (20ms, 800us)",
    "macs": "a count (150M, 1.2G)",
    "params": "a count (2M, 350k)",
    "bytes": "a size (8MB, 7.5MiB, 900kB)",
    "memory_bytes": "a size (3MB, 2.5MiB, 900kB)",
}


@dataclass(frozen=True, slots=True)
class Amount:
    """A limit. `relative`: `value` is a share of the original's cost, in (0, 1]; else it is in the metric's unit."""

    value: float
    relative: bool

    def of(self, original: float) -> float:
        """The limit in the metric's own unit, for an original of that cost."""
        return self.value * original if self.relative else self.value


def parse(written: float | str, metric: Metric) -> Amount:
    """What a limit on a metric says. Raises: ValueError that names the forms which are allowed.

    >>> parse("20 ms", "latency_us")
    Amount(value=20000.0, relative=False)
    >>> parse(0.5, "macs"), parse("8MiB", "bytes").value
    (Amount(value=0.5, relative=True), 8388608.0)
    """
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([^\s0-9]*)\s*", str(written))
    number, unit = (float(found[1]), found[2]) if found else (math.nan, "")
    if not unit and 0.0 < number <= 1.0:
        return Amount(number, relative=True)
    factor = _UNITS[metric].get(unit)
    if factor is None or not 0.0 < number < math.inf:
        raise ValueError(
            f"{written!r} is no limit: give a share of the original's from 0 to 1 (0.5), or {_EXAMPLES[metric]}"
        )
    return Amount(number * factor, relative=False)

"""Numbers and sentences for people. Everything above this folder speaks microseconds, fractions and plain counts."""

from __future__ import annotations

import math

from amc_mobile.types import AccuracyName, Metric

NBSP = "\u00a0"
MINUS = "\u2212"
METRIC_NAMES: dict[Metric, str] = {
    "latency_us": "latency",
    "macs": "MACs",
    "params": "parameters",
    "bytes": "file size",
    "memory_bytes": "activation memory",
}
ACCURACY_NAMES: dict[AccuracyName, str] = {"top1": "top-1", "top5": "top-5", "map": "mAP", "map50": "mAP50"}


def heading(name: str) -> str:
    """The first letter large: "Top-1", but "mAP"."""
    return name if name.startswith("mAP") else name[:1].upper() + name[1:]


def significant(value: float, digits: int = 3, most_decimals: int = 3) -> str:
    """A number with that many significant digits, written without exponent.

    >>> significant(1.1), significant(123.456), significant(0.01234)
    ('1.10', '123', '0.012')
    """
    magnitude = math.floor(math.log10(abs(value))) if value else 0
    return f"{value:,.{min(most_decimals, max(0, digits - 1 - magnitude))}f}"


def ms(value_us: float | None) -> str:
    """Microseconds as "1.10 ms"."""
    return "–" if value_us is None else f"{significant(value_us / 1e3)}{NBSP}ms"


def bare_ms(value_us: float | None) -> str:
    """Microseconds as "1.100", for a column headed ms."""
    return "–" if value_us is None else f"{value_us / 1e3:.3f}"


def percent(share: float | None, digits: int = 1) -> str:
    """A fraction as "98.7 %"."""
    return "–" if share is None else f"{_no_minus_zero(100 * share, digits)}{NBSP}%"


def bare_percent(share: float, digits: int = 1) -> str:
    """A fraction as "0.5", to stand after a figure that has the unit."""
    return _no_minus_zero(100 * share, digits)


def signed_percent(share: float | None, digits: int = 1) -> str:
    """A relative difference as "+1.8 %" or "−50.0 %"."""
    if share is None:
        return "–"
    text = _no_minus_zero(100 * share, digits)
    return f"{'+' if share > 0 and float(text) else ''}{text.replace('-', MINUS)}{NBSP}%"


def signed(value: float) -> str:
    """A plain signed number with four decimals, its minus a real one."""
    return f"{value:.4f}".replace("-", MINUS)


def nats(loss: float) -> str:
    """A divergence as "0.0123 nats"."""
    return f"{signed(loss)}{NBSP}nats"


def plus(value: float) -> str:
    """The sign that a rise is written with."""
    return "+" if float(f"{value:.4f}") > 0 else ""


def points(difference: float | None) -> str:
    """A difference of two fractions as "−0.2 points"."""
    if difference is None:
        return "–"
    text = _no_minus_zero(100 * difference, 1)
    return f"{'+' if difference > 0 and float(text) else ''}{text.replace('-', MINUS)}{NBSP}points"


def cost_name(metric: Metric, device: str = "") -> str:
    """What a limit is on: "MACs", "latency", "latency on pixel"."""
    return METRIC_NAMES[metric] + (f" on {device}" if device else "")


def points_interval(ends: tuple[float, float]) -> str:
    """An interval of a difference of two fractions, as "−0.9 to −0.1"."""
    low, high = (points(end).removesuffix(f"{NBSP}points") for end in ends)
    return f"{low} to {high}"


def _no_minus_zero(value: float, digits: int) -> str:
    return f"{round(value, digits) + 0.0:.{digits}f}"


def count(value: float | None) -> str:
    """A count as "300.8 M", "12.3 k" or "960"."""
    if value is None:
        return "–"
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            divisor = 1e3 if unit == "k" else size
            return f"{significant(value / divisor, 4, 2 if unit != 'k' else 1)}{NBSP}{unit}"
    return f"{value:,.0f}"


def size(value_bytes: float | None) -> str:
    """Bytes as "14.2 MB" (decimal)."""
    if value_bytes is None:
        return "–"
    for unit_bytes, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value_bytes >= unit_bytes:
            return f"{significant(value_bytes / unit_bytes)}{NBSP}{unit}"
    return f"{value_bytes:.0f}{NBSP}bytes"


def in_metric(value: float | None, metric: Metric) -> str:
    """A cost in the unit of its metric: "1.11 ms", "40.6 M MACs"."""
    if metric == "latency_us":
        return ms(value)
    if metric in ("bytes", "memory_bytes"):
        return size(value)
    return "–" if value is None else f"{count(value)}{NBSP}{METRIC_NAMES[metric]}"


def times(factor: float) -> str:
    """A speed-up as "2.01x"."""
    return f"{significant(factor)}x"


def interval(ends: tuple[float, float]) -> str:
    """A confidence interval as "1.98–2.04"."""
    return f"{significant(ends[0])}–{significant(ends[1])}"


def duration(seconds: float) -> str:
    """Seconds as "42 s" or "3 min 05 s"."""
    if seconds < 100:
        return f"{significant(seconds, 2, 1)}{NBSP}s"
    return f"{int(seconds // 60)}{NBSP}min {int(seconds % 60):02d}{NBSP}s"


def clipped(text: str, longest: int) -> str:
    """A text that fits, its middle left out if need be, and without characters that no font shows."""
    clean = "".join(char if char.isprintable() else "\ufffd" for char in text)
    if len(clean) <= longest:
        return clean
    head = longest // 2
    return f"{clean[:head]}…{clean[len(clean) - (longest - head - 1) :]}"


_ASCII = str.maketrans(
    {NBSP: " ", MINUS: "-", "–": "-", "→": "->", "±": "+/-", "≤": "<=", "×": "x", "…": "...", "µ": "u", "°": " deg "}
    | dict.fromkeys("“”", '"')
    | {"’": "'"}
)


def plain_ascii(text: str) -> str:
    """The text for a terminal of any encoding.

    >>> plain_ascii("98.9 % → 98.7 %")
    '98.9 % -> 98.7 %'
    """
    return text.translate(_ASCII).encode("ascii", "backslashreplace").decode("ascii")

"""The tables of RESULTS.md about the phone path: the runner beside Python, the daemon's way beside the host, pushing.

Called by collect.py. None of them is a phone's speed: they say that the path to a phone adds nothing to the clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine_tables import section


def phone_results(raw: Mapping[str, Any]) -> str:
    """Markdown for those of the raw files about the phone path that are there, by their names."""
    makers = {"runner_speed": runner_speed, "phone_beside_host": phone_beside_host, "push_speed": push_speed}
    return "\n".join(maker(raw[name]) for name, maker in makers.items() if name in raw)


def runner_speed(raw: Mapping[str, Any]) -> str:
    """The runner in C against Python's ONNX Runtime with bound inputs and outputs, in turn."""
    head = ("network", "precision", "Python, ms", "runner, ms", "runner / Python (95 %)")
    rows = [(*_network(row), *_milliseconds(row, "python_us", "runner_us"), _ratio(row)) for row in raw["rows"]]
    text = section("The runner beside Python, x86-64", raw["command"], [head, *rows])
    return text + f"\nLargest ratio {raw['largest']:.3f}; asked: at most {raw['asked']:.2f}.\n"


def phone_beside_host(raw: Mapping[str, Any]) -> str:
    """The same networks on the host device and through the real adbd on the same machine."""
    head = ("network", "precision", "threads", "host device, ms", "through adbd, ms", "through adbd / host (95 %)")
    rows = [
        (*_network(row), str(row["threads"]), *_milliseconds(row, "host_us", "phone_us"), _ratio(row))
        for row in raw["rows"]
    ]
    text = section("The phone path beside the host device, x86-64", raw["command"], [head, *rows])
    return text + f"\nLargest difference {raw['largest']:.1%}; asked: at most 5 %.\n"


def push_speed(raw: Mapping[str, Any]) -> str:
    """Throughput of one large file to the same daemon."""
    head = ("who pushes", "MB/s", "of adb's better way", "least of the rounds")
    rows = [
        (name, f"{row['megabytes_per_s']:.0f}", f"{row['of_adb']:.2f}", f"{row['of_adb_least']:.2f}")
        for name, row in raw["contestants"].items()
    ]
    title = f"Pushing {raw['megabytes']} MB to the real adbd ({raw['adb'].removeprefix('Version ')}) over loopback"
    return section(title, "python benchmarks/push_speed.py", [head, *rows]) + (
        "\nMedians over interleaved rounds of the ratio to the better of adb's own two ways, with and without "
        "compression, by the time that adb itself reports.\n"
    )


def _network(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["network"], row["precision"]


def _milliseconds(row: Mapping[str, Any], *keys: str) -> tuple[str, ...]:
    return tuple(f"{row[key] / 1000:.3f}" for key in keys)


def _ratio(row: Mapping[str, Any]) -> str:
    low, high = row["interval"]
    return f"{row['ratio']:.3f} ({low:.3f}–{high:.3f})"

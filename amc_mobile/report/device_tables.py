"""The tables about devices that page and Markdown share, as text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from amc_mobile.report import wording as say
from amc_mobile.report.devices import DeviceFacts, NetworkSpeed

EMULATED = "EMULATED: function only, no speed claim"
EMULATED_MORE = (
    "An emulator ran the networks. All times here are the emulator’s: they show that the whole way works, and say "
    "nothing about the speed of any real device."
)
HEADINGS = {"original": "Original", "pruned": "Pruned", "original_int8": "Original, int8", "int8": "Pruned, int8"}
OVERVIEW = ("Device", "Original", "Pruned", "Speed-up", "int8", "Speed-up", "Prediction off by")
NO_CLAIM = "emulated: no claim"


@dataclass(frozen=True, slots=True)
class SpeedTable:
    """What one device says of the networks: a column each, a row for everything that it told."""

    caption: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]


def speed_table(device: DeviceFacts) -> SpeedTable:
    """Latency, speed-up, prediction, start, memory and file size; rows that the device does not fill are left out."""
    rounds = len(device.pruned.rounds)
    caption = f"Latency: lower quartile of {rounds} interleaved rounds; in brackets 95 % intervals"
    if any(network.load_us is not None for network in device.networks):
        caption += "; first run and loading by the wall clock"
    return SpeedTable(
        caption=caption,
        headings=tuple(HEADINGS[network.label] for network in device.networks),
        rows=tuple(_rows(device)),
    )


def _rows(device: DeviceFacts) -> Iterator[tuple[str, tuple[str, ...]]]:
    networks = device.networks
    yield "Latency", tuple(f"{say.ms(one.latency_us)} ({_interval_ms(one.latency_ci)})" for one in networks)
    if not device.info.emulated:
        yield "Speed-up", tuple(map(_speedup, networks))
    if device.predicted_us is not None:
        error = f"({say.signed_percent(device.prediction_error)})"
        told = {"pruned": f"{say.ms(device.predicted_us)} {error}"}
        yield "Predicted (error)", tuple(told.get(one.label, "–") for one in networks)
    told_of: tuple[tuple[str, Callable[[NetworkSpeed], float | None], Callable[[float | None], str]], ...] = (
        ("First run", lambda one: one.first_run_us, say.ms),
        ("Loading", lambda one: one.load_us, say.ms),
        ("Peak memory", lambda one: one.peak_bytes, say.size),
        ("File", lambda one: one.file_bytes, say.size),
    )
    for name, value, words in told_of:
        if any(value(one) is not None for one in networks):
            yield name, tuple(words(value(one)) for one in networks)


def _speedup(network: NetworkSpeed) -> str:
    if network.speedup is None or network.speedup_ci is None:
        return "–"
    return f"{say.times(network.speedup)} ({say.interval(network.speedup_ci)})"


def _interval_ms(ends: tuple[float, float]) -> str:
    return say.interval((ends[0] / 1e3, ends[1] / 1e3))


def overview_rows(devices: Sequence[DeviceFacts]) -> tuple[tuple[str, ...], ...]:
    """One row for each device under OVERVIEW; none where there is nothing to compare."""
    return tuple(map(_overview_row, devices)) if len(devices) > 1 else ()


def _overview_row(device: DeviceFacts) -> tuple[str, ...]:
    int8 = device.int8
    return (
        device.title,
        say.ms(device.original.latency_us),
        say.ms(device.pruned.latency_us),
        NO_CLAIM if device.info.emulated else _speedup(device.pruned),
        say.ms(None if int8 is None else int8.latency_us),
        "–" if int8 is None else _speedup(int8),
        say.signed_percent(device.prediction_error),
    )


def layer_rows(device: DeviceFacts) -> tuple[tuple[str, str, str, str], ...]:
    """Every layer's time before and after, and how much of it is gone."""
    return tuple(
        (
            time.layer or "everything else",
            say.bare_ms(time.before_us),
            say.bare_ms(time.after_us),
            say.signed_percent(time.after_us / time.before_us - 1)
            if time.before_us and time.after_us is not None
            else "–",
        )
        for time in device.layers
    )


def one_line(device: DeviceFacts) -> str:
    """A device in the terminal's summary."""
    if device.info.emulated:
        return f"{device.title}: {EMULATED}"
    before, after = say.ms(device.original.latency_us), say.ms(device.pruned.latency_us)
    if device.stale:
        return f"{device.title}: timed an earlier network of this run"
    line = f"{device.title}: {before} → {after}, {_speedup(device.pruned)}"
    return line if device.int8 is None else f"{line}; in int8 {say.ms(device.int8.latency_us)}"

"""What one must know to measure the same again: device, state, protocol, versions."""

from __future__ import annotations

from collections.abc import Iterator

from amc_mobile.measurements import Comparison, Conditions, DeviceInfo
from amc_mobile.report.sources import Sources

Rows = tuple[tuple[str, str], ...]


def conditions(sources: Sources, device: DeviceInfo | None) -> Iterator[tuple[str, str]]:
    """Of the run and its own device."""
    if device is not None:
        yield from device_rows(device)
    if sources.table is not None and device is not None and sources.table.device.key() != device.key():
        yield "Latency table", f"measured elsewhere: {sources.table.device.key().replace('|', ', ')}"
    if sources.comparison is not None:
        yield from comparison_rows(sources.comparison)
    if sources.config is not None:
        bench, profile = sources.config.bench, sources.config.profile
        yield (
            "Benchmark protocol",
            (f"{bench.rounds} rounds, {bench.warmups} warm-ups, at least {bench.runs} runs and {bench.min_time_s:g} s"),
        )
        yield (
            "Profile protocol",
            (
                f"{profile.carriers} carriers, {profile.rounds} rounds of {_turns(sources, profile.turns)}, each of "
                f"{profile.warmups} warm-ups and at least {profile.runs} runs and {profile.min_time_s:g} s"
            ),
        )
        yield "Seed", str(sources.config.seed)
    yield "Input", " × ".join(map(str, sources.network.input_shape))
    if sources.summary.parity is not None:
        bare = sources.config is not None and sources.config.model.onnx is not None
        what = "Masked against pruned network" if bare else "PyTorch against ONNX Runtime"
        yield what, f"outputs differ by at most {sources.summary.parity:.1e}, relative"
    yield "Model SHA-256", sources.model_sha256 or "not recorded"
    yield from ((f"Version of {name}", text) for name, text in sources.summary.versions.items())


def _turns(sources: Sources, asked: int) -> str:
    """Of a network in a round, as the table has it: a run of a former version had one."""
    told = None if sources.table is None else sources.table.evidence.get("protocol", {}).get("rounds")
    turns = told if isinstance(told, int) else asked
    return f"{turns} turn{'s' * (turns != 1)}"


def device_rows(device: DeviceInfo) -> Iterator[tuple[str, str]]:
    """Who the device is, and with what it measured."""
    yield "Device", f"{device.model} ({device.name})" + (", emulated" if device.emulated else "")
    yield "System", device.os
    yield "Runtime", f"{device.runtime}, {device.provider}, optimisation “{device.optimisation}”"
    yield "Precision and threads", f"{device.precision}, {device.threads} thread{'s' * (device.threads != 1)}"
    yield from ((f"Device: {name}", text) for name, text in device.details.items())


def comparison_rows(comparison: Comparison) -> Iterator[tuple[str, str]]:
    """How the device felt before the networks were timed, and how often they were."""
    yield from _state("original", comparison.original.conditions)
    yield from _state("pruned", comparison.pruned.conditions)
    rounds = comparison.pruned.values_us
    yield "Timed", f"{len(rounds)} interleaved rounds, {sum(map(len, rounds))} timed runs of each network"


def _state(which: str, state: Conditions) -> Iterator[tuple[str, str]]:
    parts = [state.time_utc]
    if state.load is not None:
        parts.append(f"other load {state.load:.2f} cores")
    if state.clock_khz:
        low, high = min(state.clock_khz) / 1e6, max(state.clock_khz) / 1e6
        parts.append(f"{low:.2f} GHz" if low == high else f"{low:.2f}–{high:.2f} GHz")
    if state.governor is not None:
        parts.append(f"governor {state.governor}")
    if state.temperature_celsius is not None:
        parts.append(f"{state.temperature_celsius:.0f} °C")
    if state.battery_percent is not None:
        parts.append(f"battery {state.battery_percent:.0f} %")
    yield f"State, {which}", ", ".join(parts)

"""Can this device be measured now? How far the clock is from repeating itself, and what to do about it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from amc_mobile.device.protocol import Device, Progress
from amc_mobile.measurements import Conditions, DeviceInfo, TimingJob, TimingProtocol

STEADY = 0.03  # the noise that a measurement may have: a table is to stay within 3 % of the clock
_BUSY_CORES = 0.3
_HOT_CELSIUS = 85.0
_LOW_BATTERY_PERCENT = 30.0


@dataclass(frozen=True, slots=True)
class Health:
    """What an examination found. `reasons` say what disturbs the clock and what to do, even if it is still steady."""

    device: DeviceInfo
    before: Conditions
    after: Conditions
    round_medians_us: tuple[float, ...]
    noise_floor: float
    steady: bool
    reasons: tuple[str, ...]


def noise_floor(medians_us: Sequence[float]) -> float:
    """Mean |difference| of one repetition from the median of the others, relative; 0 for fewer than two.

    It is the error that a perfect prediction would show against one more measurement.

    >>> round(noise_floor([100.0, 100.0, 103.0]), 3)
    0.02
    """
    if len(medians_us) < 2:
        return 0.0
    others = [statistics.median([*medians_us[:place], *medians_us[place + 1 :]]) for place in range(len(medians_us))]
    return statistics.fmean(abs(value / other - 1) for value, other in zip(medians_us, others, strict=True))


def examine(device: Device, *, rounds: int = 8, seed: int = 0, progress: Progress | None = None) -> Health:
    """Times one small network again and again, and looks at load, clocks and heat. Takes a few seconds."""
    before = device.conditions()
    protocol = TimingProtocol(rounds=rounds, warmups=10, runs=50, min_time_s=0.3, seed=seed)
    medians = device.time_models([TimingJob("sentinel", _sentinel())], protocol, progress)[0].round_medians_us()
    after = device.conditions()
    noise, info = noise_floor(medians), device.info()
    return Health(
        device=info,
        before=before,
        after=after,
        round_medians_us=medians,
        noise_floor=noise,
        steady=noise <= STEADY,
        reasons=reasons(noise, before, after, info),
    )


def reasons(noise: float, before: Conditions, after: Conditions, device: DeviceInfo | None = None) -> tuple[str, ...]:
    """What disturbs the clock, one line each, with its remedy. Empty if nothing does."""
    found = []
    if noise > STEADY:
        found.append(
            f"the same network's time varied by {noise:.1%} (limit {STEADY:.0%}): repeat when the device is idle"
        )
    load = max((state.load for state in (before, after) if state.load is not None), default=0.0)
    if load > _BUSY_CORES:
        found.append(f"other programs keep {load:.1f} cores busy: close them")
    on_phone = device is not None and device.os.startswith("Android")  # nobody without root can change its governor
    if after.governor is not None and after.governor != "performance" and not on_phone:
        found.append(
            f"the clock governor is {after.governor!r}: type `sudo cpupower frequency-set -g performance`, "
            "or accept that clocks move"
        )
    found += _clock_reasons(before.clock_khz, after.clock_khz)
    if after.temperature_celsius is not None and after.temperature_celsius > _HOT_CELSIUS:
        found.append(f"it is {after.temperature_celsius:.0f} °C hot and will slow itself down: let it cool first")
    if after.battery_percent is not None and after.battery_percent < _LOW_BATTERY_PERCENT:
        found.append(
            f"the battery is at {after.battery_percent:.0f} %: charge it above {_LOW_BATTERY_PERCENT:.0f} % first"
        )
    return tuple(found + ([] if device is None else _core_reasons(device)))


def _core_reasons(device: DeviceInfo) -> list[str]:
    """Threads that have no core of their own, cores of several speeds, a container's quota."""
    told, threads, found = device.details, device.threads, []
    cores = len(told["cores"].split(",")) if told.get("cores") else None
    if cores is not None and threads > cores:
        found.append(f"{threads} threads share {cores} core(s) and wait for each other: type --threads {cores}")
    quota = told.get("quota_cores")
    if quota is not None and float(quota) < threads:
        found.append(f"this container may keep {quota} cores busy, less than {threads} thread(s): raise its CPU quota")
    fast = told.get("fastest_cores")
    if fast is not None and told.get("pinned") == "no":
        found.append(f"cores differ in speed and threads move between them: pin them with --cores {fast}")
    return found


def _clock_reasons(before_khz: Sequence[int], after_khz: Sequence[int]) -> list[str]:
    if not before_khz or not after_khz:
        return []
    before, after = max(before_khz) / 1000, max(after_khz) / 1000
    if abs(after / before - 1) <= STEADY:
        return []
    return [f"the fastest core's clock moved from {before:.0f} to {after:.0f} MHz: fix it, or wait until it settles"]


def _sentinel() -> bytes:
    """Six 3x3 convolutions of 64 channels at 28x28: some milliseconds on one core, several caches' worth of data."""
    rng = np.random.default_rng(0)
    weights, nodes, previous = [], [], "input"
    for index in range(6):
        kernel = (rng.standard_normal((64, 64, 3, 3)) / 24).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f"weight{index}"))
        nodes.append(helper.make_node("Conv", [previous, f"weight{index}"], [f"conv{index}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"conv{index}"], [f"relu{index}"]))
        previous = f"relu{index}"
    kind, shape = onnx.TensorProto.FLOAT, (1, 64, 28, 28)
    graph = helper.make_graph(
        nodes,
        "sentinel",
        [helper.make_tensor_value_info("input", kind, shape)],
        [helper.make_tensor_value_info(previous, kind, shape)],
        weights,
    )
    model: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    ).SerializeToString()
    return model

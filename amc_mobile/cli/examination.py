"""`amc doctor`: what an examination of a device found, in words."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from amc_mobile.device.stability import STEADY, Health

if TYPE_CHECKING:
    from amc_mobile.device.protocol import Device


def obstacles_of(device: Device, found: Health) -> Health:
    """The findings, with what a phone itself says against measuring now."""
    from android_bench.device import AndroidDevice
    from android_bench.readiness import obstacles

    if not isinstance(device, AndroidDevice):
        return found
    return replace(found, reasons=(*found.reasons, *obstacles(device.state())))


def show_health(found: Health) -> None:
    """Prints the findings on stdout."""
    device, state = found.device, found.after
    clocks = sorted({round(khz / 1e6, 1) for khz in state.clock_khz})
    lines = {
        "device": f"{device.name}: {device.model}",
        "runtime": f"{device.runtime}, {device.provider}, {device.precision}, {device.threads} thread(s)",
        "cores": f"{device.details.get('cores', 'unknown')}, "
        + ("pinned" if device.details.get("pinned") == "yes" else "not pinned"),
        "others' load": "unknown" if state.load is None else f"{state.load:.2f} cores",
        "clocks": ", ".join(f"{ghz} GHz" for ghz in clocks) or "unknown",
        "governor": state.governor or "unknown",
        "temperature": "unknown" if state.temperature_celsius is None else f"{state.temperature_celsius:.0f} °C",
        "noise": f"{found.noise_floor:.1%} between {len(found.round_medians_us)} rounds, at most {STEADY:.0%}",
        "verdict": "can be measured" if found.steady else "too noisy now",
    }
    for name, text in lines.items():
        print(f"{name:<13} {text}")
    for reason in found.reasons:
        print(f"{'to do':<13} {reason}")

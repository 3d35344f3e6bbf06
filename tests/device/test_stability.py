from __future__ import annotations

import pytest

from amc_mobile.device.stability import examine, noise_floor, reasons
from amc_mobile.measurements import Conditions
from tests.fakes.analytic import AnalyticDevice

CALM = Conditions("2025-01-01T00:00:00+00:00", load=0.0, clock_khz=(2_000_000, 3_000_000), governor="performance")


def state(**changes) -> Conditions:
    values = {"time_utc": CALM.time_utc, "load": 0.0, "clock_khz": CALM.clock_khz, "governor": "performance", **changes}
    return Conditions(**values)


def test_noise_floor():
    assert noise_floor([5.0]) == 0.0
    assert noise_floor([5.0, 5.0, 5.0]) == 0.0
    assert noise_floor([100.0, 110.0]) == pytest.approx((10 / 110 + 10 / 100) / 2)


def test_a_calm_device_has_nothing_to_say():
    assert reasons(0.01, CALM, CALM) == ()


@pytest.mark.parametrize(
    ("noise", "after", "words"),
    [
        (0.08, CALM, "varied by 8.0%"),
        (0.0, state(load=1.4), "1.4 cores busy: close"),
        (0.0, state(governor="powersave"), "cpupower"),
        (0.0, state(clock_khz=(2_000_000, 2_400_000)), "from 3000 to 2400 MHz"),
        (0.0, state(temperature_celsius=93.0), "93 °C"),
        (0.0, state(battery_percent=12.0), "battery is at 12 %"),
    ],
)
def test_each_disturbance_has_a_remedy(noise, after, words):
    (line,) = reasons(noise, CALM, after)
    assert words in line


def test_examine():
    steady = examine(AnalyticDevice(noise=0.001))
    assert steady.steady
    assert steady.reasons == ()
    assert len(steady.round_medians_us) == 8
    device = AnalyticDevice()
    device.drift = lambda seconds: 1 + 400 * seconds
    shaky = examine(device)
    assert not shaky.steady
    assert shaky.noise_floor > 0.03
    assert "varied" in shaky.reasons[0]

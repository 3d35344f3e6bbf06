from __future__ import annotations

import pytest

from amc_mobile.errors import DeviceError
from amc_mobile.measurements import Conditions
from android_bench.adb import ShellResult
from android_bench.phone import Core, State, celsius, feel, identify
from android_bench.readiness import Readiness, obstacles

IDENTITY = """@ ro.product.manufacturer
Google
@ ro.product.model
Pixel 8
@ ro.soc.manufacturer
Google
@ ro.soc.model
Tensor G3
@ ro.build.version.release
14
@ ro.build.version.sdk
34
@ ro.product.cpu.abilist
arm64-v8a,armeabi-v7a
@ machine
aarch64
@ kernel
Linux 5.15.110
@ online
0-2
@ core
/sys/devices/system/cpu/cpu0
@ capacity
186
@ most_khz
1704000
@ core
/sys/devices/system/cpu/cpu1
@ capacity
1024
@ most_khz
2914000
@ core
/sys/devices/system/cpu/cpu2
@ capacity
1024
@ most_khz
2914000
@ core
/sys/devices/system/cpu/cpu3
@ capacity
1024
@ most_khz
2914000
@ zones
/sys/class/thermal/thermal_zone0 BIG
/sys/class/thermal/thermal_zone1 charger_skin
@ folder 0
@ folder 1
"""
STATE = """@ core
/sys/devices/system/cpu/cpu0
@ khz
300000
@ governor
sched_pixel
@ zone
BIG
41000
@ zone
battery
29000
@ thermal
IsStatusOverride: false
Thermal Status: 1
Current temperatures from HAL:
\tTemperature{mValue=44.5, mType=0, mName=BIG, mStatus=0}
\tTemperature{mValue=61.0, mType=3, mName=skin, mStatus=0}
@ battery
Current Battery Service state:
  AC powered: false
  USB powered: true
  level: 82
  scale: 100
  temperature: 291
@ saver
0
"""


class Says:
    """A shell that always answers the same."""

    def __init__(self, text: str) -> None:
        self.text = text

    def shell(self, _command: str, *, timeout_s: float, most_bytes: int = 0, again: bool = False) -> ShellResult:
        return ShellResult(0, self.text.encode(), b"")


def test_identity():
    phone = identify(Says(IDENTITY))
    assert (phone.name, phone.os, phone.soc, phone.sdk) == ("Google Pixel 8", "Android 14", "Google Tensor G3", 34)
    assert phone.abis == ("arm64-v8a", "armeabi-v7a")
    assert phone.cores == (Core(0, 186, 1704000), Core(1, 1024, 2914000), Core(2, 1024, 2914000))  # cpu3 is offline
    assert phone.zones == (("/sys/class/thermal/thermal_zone0", "BIG"),)
    assert phone.folder == "/data/local/tmp"
    assert not phone.emulator


def test_the_strongest_cores_come_first_and_clusters_stay_whole():
    phone = identify(Says(IDENTITY))
    assert phone.big_cores() == phone.strongest(1) == phone.strongest(2) == (1, 2)
    assert phone.strongest(3) == (0, 1, 2)


def test_clocks_tell_where_capacities_do_not():
    phone = identify(Says(IDENTITY.replace("186\n", "").replace("1024\n", "")))
    assert phone.big_cores() == (1, 2)


def test_a_device_that_tells_nothing():
    phone = identify(Says("@ machine\nx86_64\n@ kernel\nLinux 6.1.0\n@ folder 1\n"))
    assert (phone.name, phone.os, phone.cores, phone.big_cores()) == ("x86_64", "Linux 6.1.0", (), ())
    assert phone.folder == "/tmp"  # noqa: S108
    state = feel(Says("@ battery\n\n@ thermal\n"))
    assert (state.conditions.battery_percent, state.thermal_status, state.saver, state.charging) == (None,) * 4
    assert obstacles(state) == []


def test_nowhere_to_write():
    with pytest.raises(DeviceError, match="can write in none of /data/local/tmp, /tmp"):
        identify(Says("@ machine\naarch64\n"))


def test_a_hostile_name_is_made_printable():
    phone = identify(Says(IDENTITY.replace("Pixel 8", "Pi\x1b[2Jxel\x07 $(reboot)")))
    assert "\x1b" not in phone.name
    assert "\x07" not in phone.name


def test_state():
    state = feel(Says(STATE))
    assert state.conditions.clock_khz == (300000,)
    assert state.conditions.governor == "sched_pixel"
    assert state.conditions.temperature_celsius == 44.5  # the processor's, not the skin's
    assert (state.conditions.battery_percent, state.battery_celsius) == (82.0, 29.1)
    assert (state.thermal_status, state.charging, state.saver) == (1, True, False)


def test_zones_tell_where_the_thermal_service_does_not():
    assert feel(Says(STATE.replace("mType=0", "mType=9"))).conditions.temperature_celsius == 41.0


@pytest.mark.parametrize(
    ("text", "degrees"), [("41500", 41.5), ("415", 41.5), ("41", 41.0), ("-40000", None), ("x", None), ("0", None)]
)
def test_celsius(text: str, degrees: float | None):
    assert celsius(text) == degrees


def state(**changes: object) -> State:
    battery = changes.pop("battery", 80.0)
    conditions = Conditions("2026-01-01T00:00:00+00:00", battery_percent=battery)  # type: ignore[arg-type]
    return State(conditions, **changes)  # type: ignore[arg-type]


def readiness(states: list[State], slept: list[float], **settings: object) -> Readiness:
    return Readiness("pixel", lambda: states.pop(0) if len(states) > 1 else states[0], slept.append, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("unfit", "why"),
    [
        (state(battery=29.0), "battery is at 29 %: charge it above 30 %"),
        (state(saver=True), "battery saver is on"),
        (state(thermal_status=3), "it is hot .thermal status 3.: let it cool"),
        (state(battery_celsius=47.0), "battery at 47"),
    ],
)
def test_what_cannot_be_measured_is_refused_unless_forced(unfit: State, why: str):
    with pytest.raises(DeviceError, match=f"pixel cannot be measured now: .*{why}.*--force"):
        readiness([unfit], []).require(lambda _what: None)
    assert readiness([unfit], [], force=True).require(lambda _what: None) is unfit


def test_a_hot_phone_is_waited_for():
    slept, told = [], []
    ready = readiness([state(thermal_status=2), state(thermal_status=1), state(thermal_status=0)], slept)
    assert ready.require(told.append).thermal_status == 0
    assert len(slept) == 2
    assert told == ["pixel is hot (thermal status 2): waiting", "pixel is hot (thermal status 1): waiting"]


def test_waiting_ends():
    slept: list[float] = []
    with pytest.raises(DeviceError, match="let it cool"):
        readiness([state(thermal_status=2)], slept, cool_s=60.0).require(lambda _what: None)
    assert sum(slept) == 60.0


def test_light_heat_is_measured_in_the_end():
    slept: list[float] = []
    ready = readiness([state(thermal_status=1)], slept, cool_s=60.0)
    for _ in range(3):  # before every part of a table
        assert ready.require(lambda _what: None).thermal_status == 1
    assert sum(slept) == 60.0


def test_a_board_on_mains_has_no_battery_to_charge():
    assert obstacles(state(battery=0.0, charging=True)) == []


def test_load_is_what_the_cores_did_meanwhile():
    readings = "@ busy\ncpu  100 0 50 800 10 5 5 0 0 0\n@ busy\ncpu  130 0 50 860 20 5 5 0 0 0\n"  # 30 of 100 ticks
    assert feel(Says(readings + STATE)).conditions.load == 0.3
    assert feel(Says("@ busy\ncpu hidden\n@ busy\n" + STATE)).conditions.load is None

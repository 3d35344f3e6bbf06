from __future__ import annotations

import pytest

from android_bench import sampling
from android_bench.phone import Core, Phone

SAMPLES = {
    "khz 4": "2400000",
    "khz 5": "2390000",
    "limit 4": "2400000",
    "zone 0": "41500",
    "zone 1": "38000",
    "battery": "77",
    "busy": "cpu  100 0 50 800 10 5 5 0 0 0",
    "own": "4711 (run ner) R 1 1 1 0 -1 0 0 0 0 0 30 12 0 0 20 0",
}


def phone(cores: int = 8) -> Phone:
    return Phone(
        "Google",
        "Pixel 8",
        "Tensor G3",
        "14",
        34,
        "",
        ("arm64-v8a",),
        "aarch64",
        "Linux",
        tuple(Core(index) for index in range(cores)),
        (("/sys/class/thermal/thermal_zone3", "BIG"),),
        "/data/local/tmp",
    )


def test_files_are_those_of_the_cores_in_use():
    files = sampling.sampled_files(phone(), (6, 7))
    assert files["khz 7"].endswith("/cpu7/cpufreq/scaling_cur_freq")
    assert files["zone 0"] == "/sys/class/thermal/thermal_zone3/temp"
    assert "khz 0" not in files


def test_a_sample_in_words():
    state = sampling.conditions(SAMPLES, "schedutil", 0.5)
    assert state.clock_khz == (2400000, 2390000)
    assert (state.temperature_celsius, state.battery_percent) == (41.5, 77.0)
    assert (state.governor, state.load) == ("schedutil", 0.5)


def test_nothing_is_invented():
    state = sampling.conditions({}, None, None)
    assert (state.clock_khz, state.temperature_celsius, state.battery_percent) == ((), None, None)
    assert sampling.ticks({}, 8) is None
    assert sampling.ticks({"busy": "cpu one two", "own": "x"}, 8) is None
    assert sampling.ticks(SAMPLES, 0) is None


@pytest.mark.parametrize("text", ["9" * 5000, "9" * 400, "²", "-5", "1e9", ""])
def test_numbers_that_are_none_are_not_told(text):
    samples = dict.fromkeys(("khz 0", "limit 0", "battery", "zone 0"), text) | {"busy": f"cpu {text} 1 1 1 1 1 1 1"}
    told = sampling.conditions(samples, None, None)
    assert (told.clock_khz, told.battery_percent, told.temperature_celsius) == ((), None, None)
    assert sampling.ticks(samples | {"own": SAMPLES["own"]}, 2) is None or text == "-5"
    assert not sampling.Throttle().held_down(samples, 1.0)


def test_load_leaves_the_runner_out():
    before = sampling.ticks(SAMPLES, 2)
    later = SAMPLES | {
        "busy": "cpu  300 0 50 900 10 5 5 0 0 0",  # 200 ticks of work more, in 300 ticks of 2 cores
        "own": "4711 (run ner) R 1 1 1 0 -1 0 0 0 0 0 130 12 0 0 20 0",  # 100 of them the runner's
    }
    assert sampling.load(before, sampling.ticks(later, 2)) == pytest.approx(100 / 150, abs=0.01)
    assert sampling.load(None, before) is None
    assert sampling.load(before, before) is None


def test_a_fallen_clock_or_limit_is_noticed():
    throttle = sampling.Throttle()
    slow = SAMPLES | {"khz 4": "1800000", "khz 5": "1800000"}
    assert throttle.held_down(SAMPLES, 1.0) == ""
    assert throttle.held_down(SAMPLES | {"khz 4": "2300000", "khz 5": "2310000"}, 1.0) == ""  # 4 %: as clocks are
    assert "clock fell from 2400 to 1800 MHz" in throttle.held_down(slow, 1.0)
    assert throttle.held_down(slow, 0.05) == ""  # the governor had no time yet
    assert "to 2000 instead of 2400 MHz" in throttle.held_down(SAMPLES | {"limit 4": "2000000"}, 0.05)


def test_a_phone_that_hides_its_clock_is_not_throttled():
    throttle = sampling.Throttle()
    assert throttle.held_down({}, 1.0) == throttle.held_down({"khz 0": "unreadable"}, 1.0) == ""

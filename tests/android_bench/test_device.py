"""AndroidDevice through the fake daemon with the computing runner: every fault of the way, with nothing lost."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from amc_mobile.device.protocol import ModelsFailed
from amc_mobile.device.stability import examine
from amc_mobile.errors import DeviceError
from amc_mobile.measurements import TimingJob, TimingProtocol
from android_bench.adb import Adb, Address
from android_bench.device import AndroidDevice, PhoneSettings, remove_everything
from tests.fakes.adbd import FakeAdbd, bare, pixel
from tests.fakes.analytic import OVERHEAD_US, AnalyticDevice
from tests.fakes.fake_runner import fake_bundle, script, sessions

PROTOCOL = TimingProtocol(rounds=2, warmups=1, runs=3, min_time_s=0.0, profile_warmups=1, profile_runs=3)
LONG = TimingProtocol(rounds=2, warmups=1, runs=3, min_time_s=0.3)  # long enough for a governor; time is computed
BIG = "/sys/devices/system/cpu/cpu8/cpufreq"


@pytest.fixture(scope="module")
def models(exported):
    proto = exported("digits")
    variants = []
    for number in range(3):
        proto.producer_version = str(number)
        variants.append(proto.SerializeToString())
    return variants


@pytest.fixture(scope="module")
def law_us(models):
    return round(OVERHEAD_US + sum(node.round_us[0] for node in AnalyticDevice().node_times(models[0])), 3)


@pytest.fixture
def daemon(tmp_path):
    with FakeAdbd(tmp_path / "phone") as daemon:
        yield daemon


@pytest.fixture
def opened(daemon, tmp_path):
    devices = []

    def open_(name: str = "pixel", start_s: float = 60.0, step_s: float = 60.0, **settings: object) -> AndroidDevice:
        adb = Adb(Address("tcp", daemon.address), wait_s=10.0, sleep=lambda _s: None)
        bundle = fake_bundle(tmp_path / "bundle")
        device = AndroidDevice(
            adb,
            PhoneSettings(name, **settings),
            lambda _abis: bundle,
            sleep=lambda _s: None,
            start_s=start_s,
            step_s=step_s,
            cool_s=10.0,
        )
        devices.append(device)
        return device

    yield open_
    for device in devices:
        device.close()


def jobs(models: list[bytes], *, profile: bool = False) -> list[TimingJob]:
    return [TimingJob(str(number), model, profile=profile) for number, model in enumerate(models)]


def values(measured) -> set[float]:
    return {value for one in measured for round_ in one.values_us for value in round_}


def test_who_it_is(opened):
    info = opened().info()
    assert (info.name, info.model, info.os, info.precision) == ("pixel", "Google Pixel 8", "Android 14", "fp32")
    assert info.details["soc"] == "Google Tensor G3"
    assert (info.details["cores"], info.details["pinned"]) == ("8", "yes")  # its one big core
    assert (info.details["clock"], info.emulated) == ("thread CPU time", False)
    assert "build" in info.details


def test_another_provider_says_who_runs_the_nodes(opened, daemon, models):
    device = opened(provider="xnnpack")
    assert not device.info().node_times
    device.time_models(jobs(models), PROTOCOL)
    before = sessions(daemon)
    assert before == len(models) * (PROTOCOL.rounds + 1)
    device.time_models(jobs(models), PROTOCOL)
    assert sessions(daemon) == before + len(models) * PROTOCOL.rounds  # counted once
    assert device.info().details["nodes_per_provider"]


def test_two_settings_are_two_devices(opened):
    keys = {opened(**settings).info().key() for settings in ({}, {"threads": 2}, {"precision": "int8"}, {"batch": 2})}
    assert len(keys) == 4


@pytest.mark.parametrize(
    ("settings", "why"),
    [({"provider": "gpu"}, "no provider 'gpu'"), ({"precision": "bf16"}, "measured in fp32 or int8, not in bf16")],
)
def test_settings_that_no_phone_has(opened, settings, why):
    with pytest.raises(DeviceError, match=why):
        opened(**settings)


def test_more_threads_take_whole_clusters(opened):
    assert opened(threads=1).cores == (8,)
    assert opened(threads=3).cores == (4, 5, 6, 7, 8)
    assert opened(threads=3, cores=(0, 1, 2)).cores == (0, 1, 2)


def test_states_and_starts_of_every_round(opened, models):
    (measured,) = opened().time_models(jobs(models[:1]), PROTOCOL)
    assert len(measured.starts) == len(measured.states) == PROTOCOL.rounds
    assert all(start.load_us > 0 and start.first_run_us > 0 for start in measured.starts)
    assert measured.states[0].clock_khz == (2914000,)


def test_models_and_runner_are_sent_once(opened, daemon, models):
    opened().time_models(jobs(models), PROTOCOL)
    root = daemon.sandbox.path("/data/local/tmp/amc-mobile")
    first = {path: path.stat().st_mtime_ns for path in root.glob("runner-*/*")}
    opened().time_models(jobs(models), PROTOCOL)
    assert {path: path.stat().st_mtime_ns for path in root.glob("runner-*/*")} == first
    assert len(list(root.glob("files/*.onnx"))) == len(models)
    assert not any(path.stat().st_mode & 0o022 for path in first)  # nobody else writes what we execute
    assert not list(root.glob("work-*"))


def test_the_true_reason_of_a_failure_is_told(opened, daemon, models):
    """A profiled model has two steps in a round; the second is skipped because the first failed."""
    script(daemon, models={hashlib.sha256(models[1]).hexdigest(): "fail"})
    with pytest.raises(DeviceError, match="as the script says"):
        opened().time_models(jobs(models, profile=True), PROTOCOL)


def test_a_damaged_runner_is_sent_again(opened, daemon, models, law_us):
    opened().time_models(jobs(models[:1]), PROTOCOL)
    (runner,) = daemon.sandbox.path("/data/local/tmp/amc-mobile").glob("runner-*/runner")
    runner.write_bytes(b"#!/bin/false\n")
    assert values(opened().time_models(jobs(models[:1]), PROTOCOL)) == {law_us}


def test_everything_of_ours_can_be_removed(opened, daemon, models):
    device = opened()
    device.time_models(jobs(models), PROTOCOL)
    assert remove_everything(device.adb) > 0
    assert not daemon.sandbox.path("/data/local/tmp/amc-mobile").exists()
    assert remove_everything(device.adb) == 0


# ------------------------------------------------------------------------------------------------- what may go wrong


def test_a_cable_pulled_while_models_are_sent(opened, daemon, models, law_us):
    device = opened()
    device.info()
    daemon.faults.drop_push_after_bytes, daemon.faults.drop_push_times = 50_000, 2
    assert values(device.time_models(jobs(models), PROTOCOL)) == {law_us}
    assert daemon.connections == 3


def test_a_cable_pulled_between_profiles(opened, daemon, models, law_us):
    script(daemon, session_s=0.1)
    daemon.faults.matching, daemon.faults.drop_shell_after_s = "manifest", 0.35
    measured = opened().time_models(jobs(models, profile=True), PROTOCOL)
    assert values(measured) == {law_us}
    assert all(len(node.round_us) == PROTOCOL.rounds for one in measured for node in one.nodes)
    assert sessions(daemon) < 2 * len(models) * PROTOCOL.rounds + 3  # what was done is not done again


def test_a_phone_that_reboots_between_rounds(opened, daemon, models, law_us):
    device = opened()
    device.time_models(jobs(models), TimingProtocol(rounds=1, warmups=1, runs=3, min_time_s=0.0))
    daemon.faults.reboot_after_commands, daemon.faults.reboot_s = 6, 0.3
    assert values(device.time_models(jobs(models), PROTOCOL)) == {law_us}
    assert daemon.reboots == 1


def test_a_daemon_that_stays_away_is_one_line(opened, daemon, models):
    device = opened()
    device.info()
    daemon.kill()
    with pytest.raises(DeviceError) as lost:
        device.time_models(jobs(models), PROTOCOL)
    assert "\n" not in str(lost.value)


def test_a_full_disk_says_what_was_needed(opened, daemon, models):
    device = opened()
    device.time_models(jobs(models[:1]), PROTOCOL)
    daemon.faults.disk_bytes = 100_000
    with pytest.raises(DeviceError, match=r"full: .* MB were needed .* `amc devices --clean`"):
        device.time_models(jobs(models), PROTOCOL)
    assert not list(daemon.sandbox.path("/data/local/tmp/amc-mobile/files").glob("*.part"))


def test_a_full_disk_under_the_runner(opened, daemon, models):
    daemon.faults.disk_bytes = 1_000
    with pytest.raises(DeviceError, match="full"):
        opened().time_models(jobs(models), PROTOCOL)


def test_a_model_that_crashes_the_runtime_leaves_the_others_times(opened, daemon, models, law_us):
    script(daemon, models={hashlib.sha256(models[1]).hexdigest(): "crash"})
    with pytest.raises(ModelsFailed, match="pixel cannot run 1: the runtime crashed in it") as failed:
        opened().time_models(jobs(models), PROTOCOL)
    assert set(failed.value.measured) == {"0", "2"}
    assert values(failed.value.measured.values()) == {law_us}


def test_a_model_that_hangs_is_given_up_and_the_others_are_timed(opened, daemon, models, law_us):
    script(daemon, models={hashlib.sha256(models[1]).hexdigest(): "hang"})
    with pytest.raises(ModelsFailed, match="did not end within") as failed:
        opened(start_s=2.0, step_s=2.0).time_models(jobs(models), PROTOCOL)
    assert set(failed.value.measured) == {"0", "2"}
    assert values(failed.value.measured.values()) == {law_us}


def test_a_runner_that_never_begins_is_one_line(opened, daemon, models):
    script(daemon, starts={0: "hang"})
    with pytest.raises(DeviceError) as hung:
        opened(start_s=2.0, step_s=2.0).time_models(jobs(models[:1]), PROTOCOL)
    assert "\n" not in str(hung.value)


def test_a_core_that_is_not_there(opened, models):
    with pytest.raises(DeviceError, match=r"pixel has no core 77, it has \[0, 1, .*--cores"):
        opened(cores=(0, 77)).time_models(jobs(models[:1]), PROTOCOL)


def test_two_measurements_on_one_phone_take_turns(opened, daemon, models, law_us):
    script(daemon, session_s=0.1)
    first, second = opened(), opened()
    with ThreadPoolExecutor() as pool:
        ends = [pool.submit(device.time_models, jobs(models), PROTOCOL) for device in (first, second)]
        assert all(values(end.result()) == {law_us} for end in ends)
    assert sessions(daemon) == 2 * len(models) * PROTOCOL.rounds  # nobody disturbed anybody


def test_a_runner_that_ends_within_a_line_is_made_up_for(opened, daemon, models, law_us):
    script(daemon, at={1: {"do": "torn"}})
    assert values(opened().time_models(jobs(models), PROTOCOL)) == {law_us}


def test_a_clock_that_fell_is_measured_again(opened, daemon, models, law_us):
    script(
        daemon,
        at={2: {"write": {f"{BIG}/scaling_cur_freq": "1457000"}}, 3: {"write": {f"{BIG}/scaling_cur_freq": "2914000"}}},
    )
    device = opened()
    assert values(device.time_models(jobs(models), LONG)) == {law_us}
    assert device.info().details["throttled"] == "1"


def test_a_clock_that_stays_low_is_kept_in_the_end(opened, daemon, models, law_us):
    script(daemon, at={1: {"write": {f"{BIG}/scaling_cur_freq": "1457000"}}})
    (measured,) = opened().time_models(jobs(models[:1]), LONG)
    assert measured.values_us[0][0] == law_us
    assert measured.values_us[1][0] == pytest.approx(2 * law_us, rel=1e-3)
    assert measured.states[1].clock_khz == (1457000,)


def test_an_overheating_phone_is_waited_for(daemon, tmp_path, models, law_us):
    waits = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            daemon.phone.thermal(0)

    daemon.phone.thermal(2, cpu_celsius=71.0)
    bundle, adb = fake_bundle(tmp_path / "bundle"), Adb(Address("tcp", daemon.address))
    device = AndroidDevice(adb, PhoneSettings("pixel"), lambda _abis: bundle, sleep=sleep)
    told = []
    measured = device.time_models(jobs(models), PROTOCOL, lambda _done, _total, what: told.append(what))
    assert values(measured) == {law_us}
    assert len(waits) == 3
    assert "pixel is hot (thermal status 2): waiting" in told
    device.close()


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda phone: phone.battery(percent=12), "battery is at 12 %"),
        (lambda phone: phone.saver(True), "battery saver"),
        (lambda phone: phone.thermal(3), "hot"),
    ],
)
def test_an_unfit_phone_is_refused_unless_forced(opened, daemon, models, law_us, spoil, why):
    spoil(daemon.phone)
    with pytest.raises(DeviceError, match=why):
        opened().time_models(jobs(models[:1]), PROTOCOL)
    assert values(opened(force=True).time_models(jobs(models[:1]), PROTOCOL)) == {law_us}


def test_a_phone_that_tells_nothing_is_measured_all_the_same(tmp_path, models, law_us):
    with FakeAdbd(tmp_path / "phone", phone=bare()) as daemon:
        bundle, adb = fake_bundle(tmp_path / "bundle"), Adb(Address("tcp", daemon.address))
        device = AndroidDevice(adb, PhoneSettings("old"), lambda _abis: bundle)
        (measured,) = device.time_models(jobs(models[:1]), PROTOCOL)
        assert len(measured.values_us) == PROTOCOL.rounds
        device.close()


def test_an_emulator_is_marked(opened):
    assert opened(wrapper=("qemu-aarch64", "-cpu", "cortex-a76")).info().emulated
    assert not opened().info().emulated


def test_an_emulated_phone_says_so_itself(tmp_path):
    ranchu = pixel(properties={**pixel().properties, "ro.kernel.qemu": "1"})
    with FakeAdbd(tmp_path / "phone", phone=ranchu) as daemon:
        bundle, adb = fake_bundle(tmp_path / "bundle"), Adb(Address("tcp", daemon.address))
        assert AndroidDevice(adb, PhoneSettings("avd"), lambda _abis: bundle).info().emulated
        adb.close()


def test_its_noise_can_be_examined(opened):
    found = examine(opened(), rounds=2)
    assert found.steady
    assert found.noise_floor == 0.0

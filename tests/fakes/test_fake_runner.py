"""The computing runner behind the fake daemon, driven by AndroidDevice: exact times, and what breaks on cue."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import onnx
import pytest

from amc_mobile.device.protocol import ModelsFailed
from amc_mobile.errors import DeviceError
from amc_mobile.measurements import TimingJob, TimingProtocol
from android_bench.adb import Adb, Address
from android_bench.device import AndroidDevice, PhoneSettings
from tests.fakes.adbd import FakeAdbd
from tests.fakes.analytic import OVERHEAD_US, AnalyticDevice
from tests.fakes.fake_runner import fake_bundle, script, sessions, starts

BIG = "/sys/devices/system/cpu/cpu8/cpufreq/scaling_cur_freq"
PROTOCOL = TimingProtocol(rounds=2, warmups=1, runs=3, min_time_s=0.0)


@pytest.fixture(scope="module")
def model(exported):
    return exported("digits").SerializeToString()


@pytest.fixture
def daemon(tmp_path):
    with FakeAdbd(tmp_path / "phone") as daemon:
        yield daemon


@pytest.fixture
def device(daemon, tmp_path):
    bundle = fake_bundle(tmp_path / "bundle")
    adb = Adb(Address("tcp", daemon.address))
    device = AndroidDevice(adb, PhoneSettings("pixel"), lambda _abis: bundle, sleep=lambda _s: None)
    yield device
    device.close()


@pytest.fixture(scope="module")
def law_us(model):
    return round(OVERHEAD_US + sum(node.round_us[0] for node in AnalyticDevice().node_times(model)), 3)


def other(model: bytes, number: int) -> bytes:
    """The same network in another file."""
    proto = onnx.load_from_string(model)
    proto.producer_version = str(number)
    return proto.SerializeToString()


def test_times_are_the_law(device, daemon, model, law_us):
    (measured,) = device.time_models([TimingJob("a", model, profile=True)], PROTOCOL)
    assert set().union(*measured.values_us) == {law_us}
    assert [len(values) for values in measured.values_us] == [3, 3]
    law = AnalyticDevice().node_times(model)
    assert [(node.op_type, node.outputs) for node in measured.nodes] == [(node.op_type, node.outputs) for node in law]
    assert [node.round_us[0] for node in measured.nodes] == pytest.approx([node.round_us[0] for node in law], abs=1e-3)
    assert (starts(daemon), sessions(daemon)) == (2, 4)


def test_times_follow_the_clock(device, daemon, model, law_us):
    daemon.phone.clock(8, 1_457_000)  # half of its highest
    (measured,) = device.time_models([TimingJob("a", model)], PROTOCOL)
    assert measured.latency_us() == pytest.approx(2 * law_us, abs=2e-3)


def test_a_clock_that_drops_within_a_session_is_seen(device, daemon, model, law_us):
    script(daemon, at={1: {"write": {BIG: "1457000"}}, 2: {"write": {BIG: "2914000"}}})
    (measured,) = device.time_models([TimingJob("a", model)], replace(PROTOCOL, min_time_s=0.3))
    assert set().union(*measured.values_us) == {law_us}  # the slow session was done again
    assert sessions(daemon) == 3


@pytest.mark.parametrize("happening", ["crash", "exit"])
def test_a_crash_is_made_up_for(device, daemon, model, law_us, happening):
    script(daemon, at={1: {"do": happening}})
    jobs = [TimingJob(str(number), other(model, number)) for number in range(3)]
    measured = device.time_models(jobs, PROTOCOL)
    assert {value for one in measured for values in one.values_us for value in values} == {law_us}


@pytest.mark.parametrize("happening", ["crash", "fail"])
def test_a_model_that_never_runs_leaves_the_others(device, daemon, model, happening):
    jobs = [TimingJob(str(number), other(model, number)) for number in range(3)]
    script(daemon, models={hashlib.sha256(jobs[1].model).hexdigest(): happening})
    with pytest.raises(ModelsFailed) as failed:
        device.time_models(jobs, PROTOCOL)
    assert list(failed.value.reasons) == ["1"]


@pytest.mark.parametrize("happening", ["flood", "garbage", "refuse"])
def test_what_is_no_runner_is_one_line(device, daemon, model, happening):
    script(daemon, starts={0: happening})
    with pytest.raises(DeviceError) as refused:
        device.time_models([TimingJob("a", model)], PROTOCOL)
    assert "\n" not in str(refused.value)


def test_a_cable_pulled_in_the_middle_of_a_session(device, daemon, model, law_us):
    script(daemon, session_s=0.2)
    daemon.faults.matching = "manifest"
    daemon.faults.drop_shell_after_s = 0.3
    jobs = [TimingJob(str(number), other(model, number)) for number in range(2)]
    measured = device.time_models(jobs, PROTOCOL)
    assert {value for one in measured for values in one.values_us for value in values} == {law_us}
    assert daemon.connections == 2

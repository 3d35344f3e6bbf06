from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from amc_mobile.device import host, machine
from amc_mobile.device.host import HostDevice, describe
from amc_mobile.device.protocol import ModelsFailed
from amc_mobile.errors import DeviceError
from amc_mobile.measurements import TimingJob, TimingProtocol
from tests.graph.builders import Builder

QUICK = TimingProtocol(rounds=3, warmups=2, runs=4, min_time_s=0.0, profile_warmups=1, profile_runs=3)


def small_model() -> bytes:
    net = Builder(channels=3, size=12)
    data = net.op("Relu", net.conv("input", "one", 3, 32))
    data = net.op("Relu", net.conv(data, "two", 32, 32))
    return net.build(
        net.linear(net.op("Flatten", net.op("GlobalAveragePool", data)), "head", 32, 10)
    ).SerializeToString()


def test_times_nodes_and_warmups_round_by_round(capfd: pytest.CaptureFixture[str]):
    seen: list[tuple[int, int, str]] = []
    jobs = [TimingJob("plain", small_model()), TimingJob("with nodes", small_model(), profile=True)]
    plain, profiled = HostDevice().time_models(jobs, QUICK, lambda *step: seen.append(step))
    assert (plain.label, profiled.label) == ("plain", "with nodes")
    for measured in (plain, profiled):
        assert [len(values) for values in measured.values_us] == [4, 4, 4]
        assert [len(values) for values in measured.warmups_us] == [2, 2, 2]
        assert min(min(values) for values in measured.values_us) > 0
        assert measured.conditions.time_utc
    assert plain.nodes == ()
    assert all(len(node.round_us) == 3 for node in profiled.nodes)
    known = {name for node in onnx.load_from_string(small_model()).graph.node for name in node.output}
    assert all(set(node.outputs) <= known for node in profiled.nodes)
    assert [done for done, _total, _what in seen] == list(range(7))
    assert {total for _done, total, _what in seen} == {6}
    assert capfd.readouterr().err == ""  # ONNX Runtime warns when it saves an optimised graph: nobody wants to see it


@pytest.mark.parametrize(("rounds", "fewest"), [(1, 15), (4, 4), (31, 3)])
def test_a_network_that_is_too_slow_is_run_less_often(rounds, fewest):
    protocol = TimingProtocol(rounds, warmups=50, runs=50, min_time_s=1e-9)
    (measured,) = HostDevice().time_models([TimingJob("a", small_model())], protocol)
    assert {len(values) for values in measured.values_us} == {fewest}
    assert {len(values) for values in measured.warmups_us} == {2}


def test_nodes_are_timed_in_as_many_rounds_as_are_asked_for():
    (measured,) = HostDevice().time_models(
        [TimingJob("a", small_model(), profile=True)], replace(QUICK, profile_rounds=2)
    )
    assert len(measured.values_us) == 3
    assert {len(node.round_us) for node in measured.nodes} == {2}


def test_every_round_says_how_its_session_began_and_how_the_machine_felt():
    (measured,) = HostDevice().time_models([TimingJob("a", small_model())], QUICK)
    assert len(measured.starts) == len(measured.states) == len(measured.values_us)
    assert all(start.load_us > 0 and start.first_run_us > 0 for start in measured.starts)
    assert {start.peak_bytes for start in measured.starts} == {None}  # one process cannot tell whose memory is whose
    assert all(state.time_utc for state in measured.states)


def test_a_model_that_does_not_run_leaves_the_others_times():
    jobs = [TimingJob("good", small_model()), TimingJob("bad", b"no model"), TimingJob("too", small_model())]
    with pytest.raises(ModelsFailed, match="cannot run bad") as caught:
        HostDevice().time_models(jobs, QUICK)
    assert caught.value.reasons.keys() == {"bad"}
    assert {label: len(each.values_us) for label, each in caught.value.measured.items()} == {"good": 3, "too": 3}


def test_every_round_has_an_order_of_its_own():
    orders = []
    jobs = [TimingJob(str(number), small_model()) for number in range(6)]
    for seed in (0, 0, 1):
        seen: list[str] = []
        protocol = TimingProtocol(rounds=2, warmups=1, runs=1, min_time_s=0.0, seed=seed)
        HostDevice().time_models(jobs, protocol, lambda _done, _total, what, seen=seen: seen.append(what))
        orders.append(seen)
    assert orders[0] == orders[1] != orders[2]
    assert orders[0][:6] != orders[0][6:12]


def test_min_time_is_kept_by_more_runs():
    protocol = TimingProtocol(rounds=1, warmups=1, runs=1, min_time_s=0.02)
    (measured,) = HostDevice().time_models([TimingJob("a", small_model())], protocol)
    assert len(measured.values_us[0]) > 1


def test_the_clock_is_the_one_that_was_chosen(monkeypatch: pytest.MonkeyPatch):
    """A fake clock that moves 7 µs at each reading: every run takes exactly 7 µs."""
    ticks = iter(range(0, 10**9, 7000))
    monkeypatch.setattr(host, "choose_clock", lambda _threads: (lambda: next(ticks), "fake"))
    device = HostDevice()
    (measured,) = device.time_models([TimingJob("a", small_model())], QUICK)
    assert set(measured.values_us[0]) == {7.0}
    assert device.info().details["clock"] == "fake"


def test_info_says_what_was_measured_with():
    info = HostDevice(threads=2, optimisation="basic").info()
    assert info.threads == 2
    assert info.runtime.startswith("onnxruntime ")
    assert info.details["layout"] == "NCHW"
    assert info.details["clock"] == "wall"
    assert len(info.details["library_sha256"]) == 64
    assert info.model
    assert HostDevice().info().details["layout"] in ("NCHW", "NCHWc")
    assert HostDevice().info().key() != info.key()
    assert [one.name for one in describe()] == ["host"]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs core affinity")
def test_cores_are_pinned_only_while_measuring():
    before, core = os.sched_getaffinity(0), machine.cores()[-1]
    device = HostDevice(cores=[core])
    during: list[set[int]] = []
    device.time_models([TimingJob("a", small_model())], QUICK, lambda *_step: during.append(os.sched_getaffinity(0)))
    assert during[0] == {core}
    assert os.sched_getaffinity(0) == before
    assert device.info().details["cores"] == str(core)


def test_bad_settings_and_models():
    with pytest.raises(DeviceError, match="no optimisation level 'al'"):
        HostDevice(optimisation="al")
    with pytest.raises(DeviceError, match="cannot use cores"):
        HostDevice(cores=[10**6])
    with pytest.raises(DeviceError, match="cannot run broken"):
        HostDevice().time_models([TimingJob("broken", b"no model")], QUICK)
    text = helper.make_graph(
        [helper.make_node("Identity", ["input"], ["output"])],
        "text",
        [helper.make_tensor_value_info("input", TensorProto.STRING, (1,))],
        [helper.make_tensor_value_info("output", TensorProto.STRING, (1,))],
    )
    model = helper.make_model(text, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    with pytest.raises(DeviceError, match="type tensor\\(string\\)"):
        HostDevice().time_models([TimingJob("text", model.SerializeToString())], QUICK)


def test_conditions_are_plausible():
    now = machine.conditions()
    assert now.load is None or 0.0 <= now.load <= 4 * (os.cpu_count() or 1)
    assert all(clock > 0 for clock in now.clock_khz)
    assert machine.cpu_model()
    assert np.isfinite(len(machine.operating_system()))

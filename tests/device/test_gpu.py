"""A GPU as a Device. Its code runs on torch's processor here; test_real_gpu.py needs one."""

from __future__ import annotations

import dataclasses
import itertools
import subprocess
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from amc_mobile.device import gpu, machine, torch_runner
from amc_mobile.device.gpu import TorchDevice, describe
from amc_mobile.device.rounds import Amount
from amc_mobile.device.torch_graph import TorchGraph
from amc_mobile.device.torch_nodes import NodeProcess
from amc_mobile.device.torch_runner import Happening, TorchRunner, settled
from amc_mobile.errors import DeviceError, GraphError
from amc_mobile.measurements import TimingJob
from amc_mobile.profile.profiler import profile
from amc_mobile.sections.profile import ProfileConfig
from tests.device.torch_networks import QUICK, job, outputs, small_network
from tests.graph.builders import Builder
from tests.profile.networks import concatenated_network


def test_times_and_warmups_round_by_round():
    seen: list[tuple[int, int, str]] = []
    jobs = [job("plain"), job("with nodes", profile=True)]
    plain, profiled = TorchDevice("cpu").time_models(jobs, QUICK, lambda *step: seen.append(step))
    assert (plain.label, profiled.label) == ("plain", "with nodes")
    for measured in (plain, profiled):
        assert [len(values) for values in measured.values_us] == [4, 4]
        assert all(2 <= len(values) <= 100 for values in measured.warmups_us)
        assert min(min(values) for values in measured.values_us) > 0
        assert measured.conditions.time_utc
    assert plain.nodes == ()
    assert [done for done, _total, _what in seen] == list(range(5))


def test_every_node_has_its_time_and_its_tensors(capfd: pytest.CaptureFixture[str]):
    (measured,) = TorchDevice("cpu").time_models([job(profile=True)], QUICK)
    nodes = small_network().graph.node
    assert [node.name for node in measured.nodes] == [node.name for node in nodes]
    assert [node.op_type for node in measured.nodes] == [node.op_type for node in nodes]
    assert [node.outputs for node in measured.nodes] == [tuple(node.output) for node in nodes]
    assert all(len(node.round_us) == 2 and min(node.round_us) > 0 for node in measured.nodes)
    assert capfd.readouterr().err == ""  # torch's profiler likes to talk


def test_nodes_without_names_are_named_after_what_they_write():
    model = small_network()
    for node in model.graph.node:
        node.name = ""
    (measured,) = TorchDevice("cpu").time_models([TimingJob("a", model.SerializeToString(), profile=True)], QUICK)
    assert [node.name for node in measured.nodes] == [node.output[0] for node in model.graph.node]


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("fp16", 5e-3), ("bf16", 5e-2)])
def test_a_precision_answers_nearly_the_same(precision: str, tolerance: float):
    _runner, answer, wanted = outputs("cpu", precision)
    assert np.abs(answer - wanted).max() < tolerance * np.abs(wanted).max()
    (measured,) = TorchDevice("cpu", precision=precision).time_models([job(profile=True)], QUICK)
    assert measured.latency_us() > 0
    assert len(measured.nodes) == len(small_network().graph.node)


def test_caches_are_emptied_before_every_run_outside_of_its_time(monkeypatch: pytest.MonkeyPatch):
    """By a clock that only emptying the caches moves: no run may have taken any of its time."""
    emptied, clock_ns = [], [0]

    def empty() -> None:
        emptied.append(None)
        clock_ns[0] += 10**9

    monkeypatch.setattr(machine, "empty_caches", empty)
    monkeypatch.setattr("amc_mobile.device.torch_runner.time.perf_counter_ns", lambda: clock_ns[0])
    (measured,) = TorchDevice("cpu").time_models([job(profile=True)], dataclasses.replace(QUICK, cold=True))
    assert set(measured.values_us[0]) == {0.0}
    runs = sum(map(len, (*measured.values_us, *measured.warmups_us)))
    assert len(emptied) == runs + 2 * (QUICK.profile_warmups + QUICK.profile_runs)
    emptied.clear()
    TorchDevice("cpu").time_models([job()], QUICK)
    assert not emptied


def test_warm_up_ends_when_five_runs_agree_or_when_there_were_enough(monkeypatch: pytest.MonkeyPatch):
    runner, _answer, _wanted = outputs("cpu")
    falling = iter([200.0, 150.0, 120.0, 101.0, 100.0, 100.0, 100.0, 101.0, 100.0])
    monkeypatch.setattr(runner, "_time_us", lambda _before: next(falling))
    assert len(runner.warm_up(Amount(2))) == 8
    restless = iter([100.0, 200.0] * 100)
    monkeypatch.setattr(runner, "_time_us", lambda _before: next(restless))
    assert len(runner.warm_up(Amount(2))) == 100
    assert len(runner.warm_up(Amount(7))) == 93 + 7
    assert not settled([100.0] * 4)


def test_warm_up_ends_when_there_is_no_time(monkeypatch: pytest.MonkeyPatch):
    runner, _answer, _wanted = outputs("cpu")
    restless = itertools.count(100, 50)
    monkeypatch.setattr(runner, "_time_us", lambda _before: float(next(restless)))
    assert len(runner.warm_up(Amount(50, 0.0, 0.0, fewest=2))) == 2


def test_slow_networks_have_fewer_runs(monkeypatch: pytest.MonkeyPatch):
    runner, _answer, _wanted = outputs("cpu")
    assert len(runner.times_us(Amount(40, 0.0, 0.0, fewest=15))) == 15
    assert len(runner.times_us(Amount(10, 0.0, 0.0, fewest=15))) == 10
    assert len(runner.times_us(Amount(1, 0.05))) > 1


def test_info_says_what_was_measured_with():
    info = TorchDevice("cpu", precision="bf16", batch=4).info()
    assert (info.name, info.provider, info.precision, info.batch, info.threads) == ("cpu", "CPU", "bf16", 4, 1)
    assert info.runtime == f"torch {torch.__version__}"
    assert info.optimisation == "eager"
    assert info.details["layout"] == "channels_last"
    assert info.details["tf32"] == "off"
    assert info.key() != TorchDevice("cpu").info().key()


def test_torch_keeps_its_threads():
    before = torch.get_num_threads()
    during: list[int] = []
    TorchDevice("cpu").time_models([job()], QUICK, lambda *_step: during.append(torch.get_num_threads()))
    assert set(during) == {1}
    assert torch.get_num_threads() == before


def test_without_a_gpu_the_reason_is_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)

    def no_driver() -> None:
        raise RuntimeError("Found no NVIDIA driver on your system. Please check that\nyou have an NVIDIA GPU")

    monkeypatch.setattr(torch.cuda, "init", no_driver)
    with pytest.raises(DeviceError, match=r"^there is no GPU .*Found no NVIDIA driver .*; type --device host$"):
        TorchDevice()
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    with pytest.raises(DeviceError, match="CUDA_VISIBLE_DEVICES"):
        TorchDevice("cuda:1")
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(DeviceError, match="built for processors only"):
        TorchDevice()
    assert describe() == []


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(DeviceError, match="there is no cuda:3: torch sees 1 GPU; type --device cuda"):
        TorchDevice("cuda:3")


def unknown_operator() -> onnx.ModelProto:
    net = Builder()
    return net.build(net.op("Nonsense", "input"))


def text_input() -> onnx.ModelProto:
    model = small_network()
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.STRING
    return model


def two_inputs() -> onnx.ModelProto:
    model = small_network()
    model.graph.input.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, (1,)))
    return model


def wrong_shape() -> onnx.ModelProto:
    net = Builder(channels=4)
    return net.build(net.conv("input", "one", 3, 8))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (unknown_operator, "cannot run Nonsense nonsense0: this operator is not implemented; --device host"),
        (text_input, "input input has type STRING, which cannot be made up"),
        (two_inputs, "has 2 inputs"),
        (wrong_shape, "cannot run Conv conv0"),
        (lambda: None, "cannot time broken on cpu"),
    ],
)
def test_what_cannot_run_is_said_in_one_line(model, message: str):
    made = model()
    data = b"no model" if made is None else made.SerializeToString()
    with pytest.raises(DeviceError, match=message) as caught:
        TorchDevice("cpu").time_models([TimingJob("broken", data)], QUICK)
    assert "\n" not in str(caught.value)


def test_too_little_memory_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch):
    def no_memory(*_arguments: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.\nGPU 0 has ...")

    monkeypatch.setattr(TorchGraph, "__call__", no_memory)
    with pytest.raises(DeviceError, match="large does not fit into the memory of cpu: use a smaller batch") as caught:
        TorchDevice("cpu").time_models([job("large")], QUICK)
    assert "\n" not in str(caught.value)


def test_a_torch_that_hides_its_kernels_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("amc_mobile.device.torch_runner._range_times_us", lambda *_: [[0.0, 0.0]] * 10)
    with pytest.raises(DeviceError, match="type --method layers"):
        TorchDevice("cpu").time_models([job(profile=True)], QUICK)


def test_a_node_takes_what_its_kernels_take():
    """Of all that was launched inside its range, the range's own shadow on the GPU left out."""

    def here(name: str, start_ns: int, number: int, operator: int = 0) -> Happening:
        return Happening(name, start_ns, 1_000_000, False, number, operator)

    def kernel(name: str, duration_ns: int, operator: int) -> Happening:
        return Happening(name, 10**9, duration_ns, True, 7, operator)

    happenings = [
        here("amc node 0", 30, 7),
        here("aten::mm", 31, 8),
        here("amc node 0", 10, 1),
        here("before all nodes", 5, 2),
        here("aten::conv2d", 11, 3),
        here("cudaLaunchKernel", 12, 4, operator=3),
        here("aten::add_", 13, 5),
        here("amc node 1", 20, 6),
        here("amc node 1", 40, 9),
        kernel("implicit_gemm", 20_000, 3),
        kernel("add", 3_000, 5),
        kernel("amc node 0", 50_000, 1),
        kernel("gemm", 21_000, 8),
        kernel("flush", 99_000, 2),
        kernel("of nobody", 99_000, 0),
        kernel("of a launch, not an operator", 99_000, 4),
    ]
    assert torch_runner._range_times_us(happenings, on_gpu=True) == [[23.0, 21.0], [0.0, 0.0]]
    assert torch_runner._range_times_us(happenings, on_gpu=False) == [[1000.0] * 2] * 2


def test_a_process_of_its_own_tells_the_times_of_nodes():
    process = NodeProcess("cpu", "bf16")
    for _ in range(2):
        times_us = process.times_us(job(), QUICK)
        assert [len(values) for values in times_us] == [QUICK.profile_runs] * len(small_network().graph.node)
        assert min(map(min, times_us)) > 0
    with pytest.raises(DeviceError, match=r"cannot time broken on cpu: .*; --device host has all operators"):
        process.times_us(TimingJob("broken", unknown_operator().SerializeToString()), QUICK)
    inside = process._process
    assert inside is not None
    inside.kill()
    inside.wait()
    with pytest.raises(DeviceError, match=r"profiles small ended with code -9: type --method layers"):
        process.times_us(job(), QUICK)
    assert len(process.times_us(job(), QUICK)) == len(small_network().graph.node)
    last = process._process
    assert last is not None
    del process
    assert last.wait(10) == 0


def test_the_other_process_is_no_load(monkeypatch: pytest.MonkeyPatch):
    clock_s, process = [0.0], NodeProcess("cpu", "fp32")
    assert process.cpu_s() == 0.0
    monkeypatch.setattr(machine, "_busy_s", lambda: clock_s[0])
    monkeypatch.setattr(machine.time, "perf_counter", lambda: clock_s[0])
    monkeypatch.setattr(machine.time, "process_time", lambda: 0.0)
    meter, blind = machine.LoadMeter(process.cpu_s), machine.LoadMeter()
    process.times_us(job(), QUICK)
    assert process.cpu_s() > 0.1  # at least torch was imported
    clock_s[0] = process.cpu_s()
    assert (meter.foreign(), blind.foreign()) == (0.0, 1.0)


def test_a_process_without_a_device_says_so():
    with pytest.raises(DeviceError, match=r"there is no (GPU|cuda:99)"):
        NodeProcess("cuda:99", "fp32").times_us(job(), QUICK)


def test_a_gpu_profiles_in_the_other_process(monkeypatch: pytest.MonkeyPatch):
    """By a processor that takes itself for a GPU."""
    device = TorchDevice("cpu")
    monkeypatch.setattr(device, "_on_gpu", True)
    monkeypatch.setattr(device, "_current", nullcontext)
    monkeypatch.setattr(device, "conditions", machine.conditions)
    monkeypatch.setattr(TorchRunner, "node_times_us", lambda *_: pytest.fail("profiled here"))
    (measured,) = device.time_models([job(profile=True)], QUICK)
    assert [node.name for node in measured.nodes] == [node.name for node in small_network().graph.node]
    assert all(len(node.round_us) == 2 and min(node.round_us) > 0 for node in measured.nodes)


@pytest.mark.parametrize("fails", ["never", "before the capture", "in the capture"])
def test_what_cannot_be_a_cuda_graph_is_run_without(monkeypatch: pytest.MonkeyPatch, fails: str):
    """By a stand-in for torch's graphs: an operator that waits fails while that is forbidden."""
    runner, wanted, _reference = outputs("cpu")
    modes, place = [0], ["outside"]

    @contextmanager
    def capturing(_graph: object, *, stream: object):
        place[0] = "in the capture"
        yield
        place[0] = "outside"

    def forbid(mode: int | str) -> None:
        modes.append(mode)
        place[0] = "before the capture" if mode == "error" else "outside"

    def network(image: torch.Tensor, graph=runner._graph) -> torch.Tensor:
        if place[0] == fails:
            raise GraphError("called a synchronizing CUDA operation")
        return graph(image)

    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: SimpleNamespace(replay=lambda: None))
    monkeypatch.setattr(torch.cuda, "graph", capturing)
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", forbid)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: None)
    runner._graph = network
    runner._capture()
    place[0] = "outside"
    assert runner.captured == (fails == "never")
    assert modes == [0, "error", 0]
    np.testing.assert_array_equal(runner.run().numpy(), wanted)


def test_int8_is_not_for_torch():
    with pytest.raises(DeviceError, match="fp32, fp16, bf16, not in int8; type --precision fp16"):
        TorchDevice("cpu", precision="int8")


def test_conditions_are_those_of_the_gpu_where_nvidia_smi_tells_them(monkeypatch: pytest.MonkeyPatch):
    device = TorchDevice("cpu")
    assert device.conditions().time_utc
    monkeypatch.setattr(device, "_ask", lambda *_fields: ["1980", "41"])
    assert device.conditions().clock_khz == (1_980_000,)
    assert device.conditions().temperature_celsius == 41.0
    monkeypatch.setattr(device, "_ask", lambda *_fields: ["[N/A]", "41"])
    assert device.conditions().clock_khz != (1_980_000,)


def test_nvidia_smi_may_be_missing(monkeypatch: pytest.MonkeyPatch):
    device = TorchDevice("cpu")
    monkeypatch.setattr(device, "_on_gpu", True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: type("P", (), {"uuid": "0"}))
    asked: list[list[str]] = []

    def smi(command: list[str], **_options: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 0, "1980, 41\n", "")

    monkeypatch.setattr(gpu.subprocess, "run", smi)
    assert device._ask("clocks.sm", "temperature.gpu") == ["1980", "41"]
    assert asked[0][1] == "--query-gpu=clocks.sm,temperature.gpu"
    for error in (FileNotFoundError("nvidia-smi"), subprocess.TimeoutExpired("nvidia-smi", 5)):

        def failing(*_arguments: object, error: Exception = error, **_options: object) -> None:
            raise error

        monkeypatch.setattr(gpu.subprocess, "run", failing)
        assert device._ask("clocks.sm") == []


def test_a_latency_table_of_it():
    """No times are judged: a table comes out whose layers all have a price, and that never falls."""
    config = ProfileConfig(carriers=6, rounds=1, turns=2, runs=5, warmups=1, min_time_s=0.0)
    traced = concatenated_network()
    table = profile(traced, TorchDevice("cpu"), config, seed=0, min_keep_ratio=0.2, round_to=8)
    timed = {row["layer"] for row in table.evidence["law"]["rows"] if not row["node"] and sum(row["coefficients"])}
    assert timed == {layer.name for layer in traced.network.layers}
    assert table.device.runtime.startswith("torch")
    assert all(row.is_monotone() for row in table.rows)
    assert table.latency_us(traced.network, traced.network.full().kept) > 0.0

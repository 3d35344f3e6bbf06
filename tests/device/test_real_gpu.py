"""What only a real GPU can show: CUDA graphs, its clock, its kernels."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
import torch
from onnx.reference import ReferenceEvaluator

from amc_mobile.device import torch_runner
from amc_mobile.device.gpu import TorchDevice, describe
from amc_mobile.device.torch_graph import TorchGraph, as_on_device
from amc_mobile.device.torch_runner import TorchRunner
from amc_mobile.measurements import TimingJob, TimingProtocol
from amc_mobile.profile.profiler import profile
from amc_mobile.sections.device import DeviceConfig
from amc_mobile.sections.profile import ProfileConfig
from tests.device.torch_networks import QUICK, job, outputs
from tests.graph.builders import Builder
from tests.models.test_torch_evaluation import CASES, graph_of
from tests.profile.networks import residual_network


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("fp16", 5e-3), ("bf16", 5e-2)])
def test_a_cuda_graph_answers_as_the_kernels_one_by_one(precision: str, tolerance: float):
    captured, answer, wanted = outputs("cuda", precision, capture=True)
    eager, other, _wanted = outputs("cuda", precision)
    assert captured.captured
    assert not eager.captured
    np.testing.assert_array_equal(answer, other)
    np.testing.assert_array_equal(captured.run().float().cpu().numpy(), answer)
    assert np.abs(answer - wanted).max() < tolerance * np.abs(wanted).max()


@pytest.mark.gpu
def test_what_waits_for_the_gpu_is_run_without_a_graph():
    net = Builder(channels=3, size=12)
    high = net.op("ReduceMax", net.op("Abs", "input"), keepdims=0)
    model = net.build(net.op("Clip", net.conv("input", "one", 3, 8), "", high))
    device = TorchDevice()
    waiting, ready = device.time_models([TimingJob("waits", model.SerializeToString()), job("ready")], QUICK)
    assert waiting.latency_us() > 0
    assert ready.latency_us() > 0
    assert device.info().details["eager"] == "waits"


def many_kernels() -> bytes:
    """A network whose kernels are short, so that whatever slows each of them shows."""
    net = Builder(channels=8, size=8)
    data = "input"
    for place in range(60):
        data = net.op("Relu", net.conv(data, f"conv {place}", 8, 8))
    return net.build(data).SerializeToString()


@pytest.mark.gpu
def test_profiling_leaves_the_clock_alone():
    device, protocol = TorchDevice(precision="fp16"), TimingProtocol(rounds=1, runs=500, min_time_s=0.2)
    before, _profiled, after = (
        device.time_models([TimingJob("many", many_kernels(), profile)], protocol)[0]
        for profile in (False, True, False)
    )
    assert after.latency_us() < 1.05 * before.latency_us()


@pytest.mark.gpu
def test_every_kernel_belongs_to_a_node():
    runner, _answer, _wanted = outputs("cuda")
    with torch.profiler.profile() as trace:
        runner._graph(runner._image, torch_runner._named_range)
        torch.cuda.synchronize()
    happenings = torch_runner._happenings(trace)
    kernels = [one for one in happenings if one.on_gpu and not one.name.startswith(torch_runner._RANGE)]
    found = torch_runner._range_times_us(happenings, on_gpu=True)
    assert len(kernels) >= sum(us > 0.0 for (us,) in found) > 5
    assert sum(us for (us,) in found) == pytest.approx(sum(one.duration_ns for one in kernels) / 1000)


@pytest.mark.gpu
@pytest.mark.parametrize(("op", "inputs", "attributes"), CASES)
def test_an_operator_on_a_gpu_is_that_of_the_definition(op, inputs, attributes):
    """One by one, and in a CUDA graph, which refuses whatever waits for the GPU."""
    model, place = graph_of(op, inputs, attributes), torch.device("cuda")
    wanted = ReferenceEvaluator(model).run(None, {"i0": inputs[0]})[0]
    image = as_on_device(torch.from_numpy(inputs[0]), place)
    runner = TorchRunner(TorchGraph(model, place, deterministic=False), image, capture=True)
    assert runner.captured
    for answer in (TorchGraph(model, place)(image), runner.run()):
        np.testing.assert_allclose(answer.cpu().numpy(), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
def test_times_on_a_gpu_repeat():
    model = residual_network(256, 56).model.SerializeToString()
    protocol = TimingProtocol(rounds=4, warmups=10, runs=50, min_time_s=0.2)
    (measured,) = TorchDevice().time_models([TimingJob("residual", model, profile=True)], protocol)
    medians = measured.round_medians_us()
    assert max(medians) < 1.05 * min(medians)
    nodes = sum(statistics.median(node.round_us) for node in measured.nodes)
    assert 0.5 < nodes / measured.latency_us() < 1.5


@pytest.mark.gpu
@pytest.mark.parametrize("method", ["nodes", "layers"])
def test_a_latency_table_of_a_gpu(method: str):
    config = ProfileConfig(method=method, carriers=6, rounds=1, runs=20, warmups=5, min_time_s=0.05)
    traced = residual_network()
    device = TorchDevice(precision="fp16", batch=1)
    table = profile(traced, device, config, seed=0, min_keep_ratio=0.2, round_to=8)
    assert table.device.provider == "CUDA"
    assert table.device.optimisation == "graphs"
    assert "eager" not in device.info().details
    assert all(row.is_monotone() for row in table.rows)
    assert table.latency_us(traced.network, traced.network.full().kept) > 0.0


@pytest.mark.gpu
def test_gpus_are_listed():
    (first, *_others) = describe()
    assert first.name in ("cuda", "cuda:0")
    assert int(first.details["l2_bytes"]) > 0
    assert DeviceConfig(name="cuda").name == first.name

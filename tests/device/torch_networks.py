"""What a torch device is tested with: a small network, a job that times it, its answers."""

from __future__ import annotations

import numpy as np
import onnx
import torch
from onnx import TensorProto

from amc_mobile.device.torch_graph import TorchGraph, as_on_device
from amc_mobile.device.torch_runner import TorchRunner
from amc_mobile.measurements import TimingJob, TimingProtocol
from tests.graph.builders import Builder, run

QUICK = TimingProtocol(rounds=2, warmups=2, runs=4, min_time_s=0.0, profile_warmups=1, profile_runs=3)
CPU = torch.device("cpu")
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def small_network() -> onnx.ModelProto:
    """With an operator of each kind that needs care on a GPU: numbers, indices, a reversed axis, a cast."""
    net = Builder(channels=3, size=12)
    data = net.conv("input", "one", 3, 16)
    data = net.op("Clip", data, net.constant("low", np.float32(0)), net.constant("high", np.float32(6)))
    data = net.op("Gather", data, net.ints(3, 0, -1, 5, 2, 7, 1, 4), axis=1)
    data = net.op("Slice", data, net.ints(-1), net.ints(-(2**40)), net.ints(1), net.ints(-1))
    data = net.op("Mul", data, net.constant("half", np.float32(0.5)))
    data = net.op("Add", net.conv(data, "two", 8, 8), net.op("Cast", data, to=TensorProto.FLOAT))
    data = net.op("Pad", data, net.ints(0, 0, 1, 1, 0, 0, 1, 1), net.constant("edge", np.float32(0.25)))
    return net.build(net.linear(net.op("Flatten", net.op("GlobalAveragePool", data)), "head", 8, 10))


def job(label: str = "small", *, profile: bool = False) -> TimingJob:
    return TimingJob(label, small_network().SerializeToString(), profile)


def outputs(
    device: str, precision: str = "fp32", *, capture: bool = False
) -> tuple[TorchRunner, np.ndarray, np.ndarray]:
    """A runner, what it answers, and what ONNX Runtime answers."""
    images = np.random.default_rng(1).standard_normal((1, 3, 12, 12)).astype(np.float32)
    place, dtype = torch.device(device), DTYPES[precision]
    graph = TorchGraph(small_network(), place, dtype, deterministic=False)
    runner = TorchRunner(graph, as_on_device(torch.from_numpy(images), place, dtype), capture=capture)
    answer = runner.run()
    assert answer.dtype == dtype
    return runner, answer.float().cpu().numpy(), run(small_network(), images)

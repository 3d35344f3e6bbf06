"""A device that computes how long a network takes instead of running it: a known law, so that fits can be judged.

A convolution takes BASE_US plus its work in blocks of BLOCK channels; the clock's noise, its drift and the runtime's
own share are added. Results depend on the model, the seeds and the fake clock only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from amc_mobile.device.protocol import Progress
from amc_mobile.device.rounds import profiled
from amc_mobile.measurements import Conditions, DeviceInfo, Measurement, NodeTime, TimingJob, TimingProtocol

BLOCK = 16
BASE_US = 4.0
OVERHEAD_US = 30.0  # of one run, whatever the network
PROFILER_US = 1.5  # that the profiler adds to every node
WORK_PER_US = 2e4  # MACs
_SIZED = ("Relu", "Clip", "Add", "MaxPool", "GlobalAveragePool", "Flatten", "Concat")


class FakeClock:
    """Seconds that pass only when somebody says so."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def advance(self, seconds: float) -> None:
        self.now_s += seconds


@dataclass
class AnalyticDevice:
    """Implements Device. `noise`: relative deviation of a run; `drift`: from seconds to a factor on every time.

    `thin_penalty` slows convolutions down whose input is narrower than a block, as ONNX Runtime's blocked layout does.
    `killed_after`: calls of `time_models` until the device raises KeyboardInterrupt.
    """

    noise: float = 0.0
    drift: Callable[[float], float] = lambda _seconds: 1.0
    thin_penalty: float = 0.0
    seed: int = 0
    model: str = "analytic"
    names_layers: bool = True
    gives_nodes: bool = True
    load: Callable[[int], float] = lambda _call: 0.0  # of other programs, from the number of the call
    killed_after: int | None = None
    calls: int = 0

    def __post_init__(self) -> None:
        self.clock = FakeClock()
        self.alone: list[bytes] = []  # the models that were timed with cold caches

    def info(self) -> DeviceInfo:
        return DeviceInfo(
            "fake", self.model, "none", "analytic 1", "Formula", "fp32", 1, "all", node_times=self.gives_nodes
        )

    def conditions(self) -> Conditions:
        return Conditions("2025-01-01T00:00:00+00:00", load=self.load(self.calls), clock_khz=(1_000_000,))

    def time_models(
        self, jobs: Sequence[TimingJob], protocol: TimingProtocol, progress: Progress | None = None
    ) -> list[Measurement]:
        self.calls += 1
        if self.killed_after is not None and self.calls > self.killed_after:
            raise KeyboardInterrupt
        self.alone += [job.model for job in jobs if protocol.cold]
        values: list[list[tuple[float, ...]]] = [[] for _ in jobs]
        nodes: list[list[list[NodeTime]]] = [[] for _ in jobs]
        for number in range(protocol.rounds):
            order = np.random.default_rng([protocol.seed, number]).permutation(len(jobs))
            for place, index in enumerate(order):
                job = jobs[index]
                if progress is not None:
                    progress(number * len(jobs) + place, protocol.rounds * len(jobs), job.label)
                rng = self._rng(job, protocol.seed, number)
                times = self.node_times(job.model)
                total = (OVERHEAD_US + sum(time.round_us[0] for time in times)) * self.drift(self.clock.now_s)
                runs = total * (1 + self.noise * rng.standard_normal(protocol.runs))
                values[index].append(tuple(np.round(runs, 3).tolist()))
                self.clock.advance(total * protocol.runs / 1e6)
                if profiled(job, number, protocol):
                    nodes[index].append([self._profiled(time, rng) for time in times])
        return [
            Measurement(
                job.label,
                tuple(values[index]),
                tuple((9e9,) for _ in values[index]),
                _join(nodes[index]),
                self.conditions(),
            )
            for index, job in enumerate(jobs)
        ]

    def node_times(self, model: bytes) -> list[NodeTime]:
        """The law itself, without noise and profiler: what every node takes."""
        proto = onnx.shape_inference.infer_shapes(onnx.load_from_string(model))
        shapes = {item.name: _dims(item) for item in [*proto.graph.input, *proto.graph.value_info, *proto.graph.output]}
        weights = {item.name: tuple(item.dims) for item in proto.graph.initializer}
        times = []
        for node in proto.graph.node:
            outputs = tuple(node.output) if self.names_layers else (f"runtime {len(times)}",)
            times.append(NodeTime(node.name, node.op_type, outputs, (self._node_us(node, shapes, weights),)))
        return times

    def _node_us(
        self, node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]], weights: dict[str, tuple[int, ...]]
    ) -> float:
        if node.op_type == "Conv":
            out, into, *kernel = weights[node.input[1]]
            height, width = shapes[node.output[0]][2:]
            thin = 1.0 + self.thin_penalty * (3 < into < BLOCK)
            work = height * width * np.prod(kernel) * _blocks(out) * (1 if into == 1 else _blocks(into))
            return float(BASE_US + thin * work / WORK_PER_US)
        if node.op_type == "Gemm":
            out, into = weights[node.input[1]]
            return BASE_US + out * into / WORK_PER_US
        if node.op_type in _SIZED and node.output[0] in shapes:
            return 0.5 + float(np.prod(shapes[node.output[0]])) / (10 * WORK_PER_US)
        return 0.5

    def _profiled(self, time: NodeTime, rng: np.random.Generator) -> NodeTime:
        noisy = (time.round_us[0] + PROFILER_US) * (1 + self.noise * rng.standard_normal())
        return NodeTime(time.name, time.op_type, time.outputs, (max(noisy, 0.0) * self.drift(self.clock.now_s),))

    def _rng(self, job: TimingJob, seed: int, number: int) -> np.random.Generator:
        digest = hashlib.sha256(job.model + f"{self.seed} {seed} {number}".encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def _join(rounds: list[list[NodeTime]]) -> tuple[NodeTime, ...]:
    return tuple(
        NodeTime(same[0].name, same[0].op_type, same[0].outputs, tuple(node.round_us[0] for node in same))
        for same in zip(*rounds, strict=True)
    )


def _dims(item: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(dim.dim_value for dim in item.type.tensor_type.shape.dim)


def _blocks(channels: int) -> int:
    return -(-channels // BLOCK) * BLOCK

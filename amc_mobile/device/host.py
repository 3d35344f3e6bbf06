"""This machine's processor as a Device, through ONNX Runtime.

Every round opens its sessions anew: one session lives at a time, however many networks are compared, and what differs
from session to session (where its memory happens to lie) is part of the spread instead of a hidden bias. End-to-end
times and per-node times never share a session, because profiling slows every node down by some microseconds.

With one thread the clock is the thread's CPU time: ONNX Runtime then computes on the calling thread and never waits, so
that on an idle machine it equals the wall clock, and on a busy one it leaves out the time in which other programs had
the core. (MobileNet-V2 with six busy processes on two cores: 4.76-4.85 ms in four repetitions, by the wall 8.5-12.8.)
"""

from __future__ import annotations

import gc
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state

from amc_mobile.device import machine
from amc_mobile.device.node_times import Node, node_times, original_outputs, parse_profile, with_unique_names
from amc_mobile.device.protocol import Progress
from amc_mobile.errors import DeviceError
from amc_mobile.types import Conditions, DeviceInfo, Measurement, NodeTime, TimingJob, TimingProtocol

_PROVIDER = "CPUExecutionProvider"
_SILENT = 4  # log severity: fatal errors only
_LEVELS = {
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
}
_TYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(uint8)": np.uint8,
}


def describe() -> list[DeviceInfo]:
    """The devices of this kind that can be used now: always one, this machine."""
    return [HostDevice().info()]


class HostDevice:
    """ONNX Runtime on this machine's processor.

    Args:
        threads: of ONNX Runtime's pool, the calling thread included.
        optimisation: ONNX Runtime's graph optimisation level: "all", "extended" or "basic".
        cores: measure on these cores only; None leaves it to the system.
    """

    def __init__(self, threads: int = 1, optimisation: str = "all", *, cores: Sequence[int] | None = None) -> None:
        """Raises: DeviceError for an unknown optimisation level or a core that this process may not use."""
        if optimisation not in _LEVELS:
            raise DeviceError(f"there is no optimisation level {optimisation!r}; type one of {', '.join(_LEVELS)}")
        if cores is not None and not set(cores) <= set(machine.cores()):
            raise DeviceError(f"cannot use cores {list(cores)}: this process may use {list(machine.cores())}")
        self.threads = threads
        self.optimisation = optimisation
        self.cores = None if cores is None else tuple(cores)
        self._clock, self._clock_name = _choose_clock(threads)
        self._nodes: dict[str, Mapping[str, Node]] = {}  # the optimised graph of each network profiled so far

    def info(self) -> DeviceInfo:
        """This machine and its ONNX Runtime."""
        return DeviceInfo(
            name="host",
            model=machine.cpu_model(),
            os=machine.operating_system(),
            runtime=f"onnxruntime {onnxruntime.__version__}",
            provider=_PROVIDER,
            precision="fp32",
            threads=self.threads,
            optimisation=self.optimisation,
            details=self._details,
        )

    def conditions(self) -> Conditions:
        """Load, clocks, governor and heat now."""
        return machine.conditions()

    def time_models(
        self, jobs: Sequence[TimingJob], protocol: TimingProtocol, progress: Progress | None = None
    ) -> list[Measurement]:
        """Times several models, in a new shuffled order each round. Answers in the order of the jobs.

        Raises: DeviceError if a model does not load or does not run.
        """
        rng = np.random.default_rng(protocol.seed)
        records = [_Record() for _ in jobs]
        total = protocol.rounds * len(jobs)
        conditions, meter = self.conditions(), machine.LoadMeter()
        with self._pinned():
            for round_number in range(protocol.rounds):
                for place, index in enumerate(rng.permutation(len(jobs))):
                    if progress is not None:
                        progress(round_number * len(jobs) + place, total, jobs[index].label)
                    self._measure(jobs[index], protocol, records[index])
        if progress is not None:
            progress(total, total, "timed")
        conditions = replace(conditions, load=meter.foreign())  # while it was measured, not only before
        return [record.measurement(job.label, conditions) for job, record in zip(jobs, records, strict=True)]

    def _measure(self, job: TimingJob, protocol: TimingProtocol, record: _Record) -> None:
        try:
            runner = _Runner(job.model, self._options(), self._clock)
            record.warmups_us.append(runner.times_us(protocol.warmups))
            record.values_us.append(runner.times_us(protocol.runs, protocol.min_time_s))
            del runner  # its memory must be free before the next session is opened
            if job.profile:
                record.add_nodes(self._profile(job.model, protocol))
        except DeviceError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise DeviceError(
                f"ONNX Runtime cannot run {job.label}: {reason}; check the file with onnx.checker"
            ) from error

    def _profile(self, model: bytes, protocol: TimingProtocol) -> tuple[NodeTime, ...]:
        key = hashlib.sha256(model).hexdigest()
        with tempfile.TemporaryDirectory(prefix="amc-profile-") as folder:
            options = self._options()
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(folder) / "profile")
            if key not in self._nodes:
                options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
            original = with_unique_names(onnx.load_from_string(model))
            runner = _Runner(original.SerializeToString(), options, self._clock)
            runner.times_us(protocol.profile_warmups + protocol.profile_runs)
            text = Path(runner.session.end_profiling()).read_text(encoding="utf-8")
            if key not in self._nodes:
                self._nodes[key] = original_outputs(original, onnx.load(options.optimized_model_filepath))
        return node_times(parse_profile(text, protocol.profile_warmups), self._nodes[key])

    def _options(self) -> onnxruntime.SessionOptions:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _SILENT
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = _LEVELS[self.optimisation]
        return options

    @contextmanager
    def _pinned(self) -> Iterator[None]:
        """Threads that are started inside stay on the chosen cores, as the calling thread does meanwhile."""
        if self.cores is None or not hasattr(os, "sched_setaffinity"):
            yield
            return
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, self.cores)
        try:
            yield
        finally:
            os.sched_setaffinity(0, before)

    @cached_property
    def _details(self) -> dict[str, str]:
        library = Path(onnxruntime_pybind11_state.__file__)
        return {
            "layout": self._layout(),
            "clock": self._clock_name,
            "library": library.name,
            "library_sha256": hashlib.sha256(library.read_bytes()).hexdigest(),
            "cores": ",".join(map(str, self.cores or machine.cores())),
            "pinned": "no" if self.cores is None else "yes",
            "spinning": "ONNX Runtime's default" if self.threads > 1 else "no pool",
        }

    def _layout(self) -> str:
        """Whether this build computes convolutions in channel blocks: it depends on the processor and the level."""
        with tempfile.TemporaryDirectory(prefix="amc-layout-") as folder:
            options = self._options()
            options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
            _Runner(_one_convolution(), options, self._clock)
            nodes = onnx.load(options.optimized_model_filepath).graph.node
        return "NCHWc" if any("nchwc" in node.domain for node in nodes) else "NCHW"


class _Record:
    """What one job has given so far, round by round."""

    def __init__(self) -> None:
        self.values_us: list[tuple[float, ...]] = []
        self.warmups_us: list[tuple[float, ...]] = []
        self.nodes: dict[str, NodeTime] = {}

    def add_nodes(self, nodes: Sequence[NodeTime]) -> None:
        for node in nodes:
            before = self.nodes[node.name].round_us if node.name in self.nodes else ()
            self.nodes[node.name] = NodeTime(node.name, node.op_type, node.outputs, (*before, *node.round_us))

    def measurement(self, label: str, conditions: Conditions) -> Measurement:
        nodes = tuple(self.nodes.values())
        return Measurement(label, tuple(self.values_us), tuple(self.warmups_us), nodes, conditions)


class _Runner:
    """One session with its inputs and outputs bound, so that a run copies nothing."""

    def __init__(self, model: bytes, options: onnxruntime.SessionOptions, clock_ns: Callable[[], int]) -> None:
        self._clock_ns = clock_ns
        self.session = onnxruntime.InferenceSession(model, options, providers=[_PROVIDER])
        self._binding = self.session.io_binding()
        rng = np.random.default_rng(0)
        self._inputs = {item.name: _values(item, rng) for item in self.session.get_inputs()}
        for name, values in self._inputs.items():
            self._binding.bind_cpu_input(name, values)
        for item in self.session.get_outputs():
            self._binding.bind_output(item.name)

    def times_us(self, runs: int, min_time_s: float = 0.0) -> tuple[float, ...]:
        """Times in µs of at least `runs` runs that take at least `min_time_s`. No garbage is collected meanwhile."""
        run, clock, binding = self.session.run_with_iobinding, self._clock_ns, self._binding
        times_ns: list[int] = []
        collecting = gc.isenabled()
        gc.disable()
        try:
            end = time.perf_counter() + min_time_s
            while len(times_ns) < runs or time.perf_counter() < end:
                start = clock()
                run(binding)
                times_ns.append(clock() - start)
        finally:
            if collecting:
                gc.enable()
        return tuple(value / 1000 for value in times_ns)


def _choose_clock(threads: int) -> tuple[Callable[[], int], str]:
    """The clock in ns, and its name. Where the thread's own clock is coarse, as on Windows, it is the wall's."""
    if threads == 1 and time.get_clock_info("thread_time").resolution <= 1e-7:
        return time.thread_time_ns, "thread CPU time"
    return time.perf_counter_ns, "wall"


def _values(item: Any, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Random input of the declared shape; free dimensions are 1."""
    shape = [size if isinstance(size, int) and size > 0 else 1 for size in item.shape]
    dtype = _TYPES.get(item.type)
    if dtype is None:
        raise DeviceError(f"input {item.name} has type {item.type}, which cannot be made up; use a float32 image input")
    if np.issubdtype(dtype, np.integer):
        return np.zeros(shape, dtype)
    return rng.standard_normal(shape).astype(dtype)


def _one_convolution() -> bytes:
    """A 3x3 convolution of 32 channels, for which a blocked layout pays wherever there is one."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    weight = onnx.numpy_helper.from_array(np.ones((32, 32, 3, 3), np.float32), "weight")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "weight"], ["y"], pads=[1, 1, 1, 1])],
        "probe",
        [helper.make_tensor_value_info("x", kind, (1, 32, 8, 8))],
        [helper.make_tensor_value_info("y", kind, (1, 32, 8, 8))],
        [weight],
    )
    model: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    ).SerializeToString()
    return model

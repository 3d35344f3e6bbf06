"""This machine's processor as a Device, through ONNX Runtime.

Every round opens its sessions anew: one session lives at a time, however many networks are compared, and what differs
from session to session (where its memory happens to lie) is part of the spread instead of a hidden bias. End-to-end
times and per-node times never share a session, because profiling slows every node down by some microseconds.

With one thread the clock is the thread's CPU time: ONNX Runtime then computes on the calling thread and never waits, so
that on an idle machine it equals the wall clock, and on a busy one it leaves out the time in which other programs had
the core. (MobileNet-V2 with six busy processes on two cores: 4.76-4.85 ms in four repetitions, by the wall 8.5-12.8.)
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state

from amc_mobile.device import machine
from amc_mobile.device.node_times import Node, name_uniquely, node_times, original_outputs, parse_profile
from amc_mobile.device.ort_session import CPU, CUDA, Runner, choose_clock
from amc_mobile.device.protocol import Progress
from amc_mobile.device.rounds import Record, profile_runs, profile_warmups, profiled, timed, timed_runs, warmup_runs
from amc_mobile.errors import DeviceError
from amc_mobile.measurements import Conditions, DeviceInfo, Measurement, NodeTime, Start, TimingJob, TimingProtocol
from amc_mobile.types import Precision

_SILENT = 4  # log severity: fatal errors only
_LEVELS = {
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
}


def describe() -> list[DeviceInfo]:
    """The devices of this kind that can be used now: always one, this machine."""
    return [HostDevice().info()]


class HostDevice:
    """ONNX Runtime on this machine's processor.

    Args:
        threads: of ONNX Runtime's pool, the calling thread included.
        optimisation: ONNX Runtime's graph optimisation level: "all", "extended" or "basic".
        precision: of the models that it is handed: "fp32" or "int8" (QDQ). It runs them as they are.
        batch: images in the models that it is handed.
        cores: measure on these cores only; None leaves it to the system.
        provider: "CPUExecutionProvider", or "CUDAExecutionProvider" where onnxruntime-gpu is installed: whole networks
            only, since the times that it gives for nodes are those of their launch.
    """

    def __init__(
        self,
        threads: int = 1,
        optimisation: str = "all",
        *,
        precision: Precision = "fp32",
        batch: int = 1,
        cores: Sequence[int] | None = None,
        provider: str = CPU,
    ) -> None:
        """Raises: DeviceError for an unknown optimisation level, a core that this process may not use, no provider."""
        if optimisation not in _LEVELS:
            raise DeviceError(f"there is no optimisation level {optimisation!r}; type one of {', '.join(_LEVELS)}")
        if cores is not None and not set(cores) <= set(machine.cores()):
            raise DeviceError(f"cannot use cores {list(cores)}: this process may use {list(machine.cores())}")
        if precision not in ("fp32", "int8"):
            raise DeviceError(f"this processor is measured in fp32 or int8, not in {precision}; type --precision fp32")
        if provider not in onnxruntime.get_available_providers():
            raise DeviceError(
                f"this onnxruntime has no {provider}: type `pip install onnxruntime-gpu`, or --device cuda for torch"
            )
        self.provider, self._on_gpu = provider, provider == CUDA
        self.threads = threads
        self.optimisation = optimisation
        self.precision, self.batch = precision, batch
        self.cores = None if cores is None else tuple(cores)
        self._clock, self._clock_name = choose_clock(0 if self._on_gpu else threads)
        self._nodes: dict[str, Mapping[str, Node]] = {}  # the optimised graph of each network profiled so far
        self._as_they_are: set[str] = set()  # those of them whose nodes all have a name of their own

    def info(self) -> DeviceInfo:
        """This machine and its ONNX Runtime."""
        return DeviceInfo(
            name="cuda-ort" if self._on_gpu else "host",
            model=machine.gpu_model() if self._on_gpu else machine.cpu_model(),
            os=machine.operating_system(),
            runtime=f"onnxruntime {onnxruntime.__version__}",
            provider=self.provider,
            precision=self.precision,
            threads=self.threads,
            optimisation=self.optimisation,
            details=self._details,
            batch=self.batch,
            node_times=not self._on_gpu,
        )

    def conditions(self) -> Conditions:
        """Load, clocks, governor and heat now."""
        return machine.conditions()

    def time_models(
        self, jobs: Sequence[TimingJob], protocol: TimingProtocol, progress: Progress | None = None
    ) -> list[Measurement]:
        """Times several models, in a new shuffled order each round. Answers in the order of the jobs.

        Raises: ModelsFailed if a model does not load or does not run.
        """
        conditions = self.conditions()
        with self._pinned():
            return timed(jobs, protocol, progress, conditions, partial(self._measure, protocol))

    def _measure(self, protocol: TimingProtocol, job: TimingJob, record: Record) -> None:
        try:
            runner = Runner(job.model, self._options(), self._clock, self.provider)
            before = machine.empty_caches if protocol.cold else None
            first_us, first_wall_us = runner.first_us()
            record.starts.append(Start(runner.load_us, first_wall_us))  # whose memory is whose, one process cannot tell
            record.warmups_us.append((first_us, *runner.times_us(warmup_runs(protocol).further())))
            meter = machine.LoadMeter()
            record.values_us.append(runner.times_us(timed_runs(protocol), before))
            record.states.append(machine.state(meter.foreign()))
            del runner  # its memory must be free before the next session is opened
            if profiled(job, record.rounds - 1, protocol) and not self._on_gpu:
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
            original = None if key in self._as_they_are else onnx.load_from_string(model)
            named = model if original is None or not name_uniquely(original) else original.SerializeToString()
            if key not in self._nodes:
                options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
            runner = Runner(named, options, self._clock)
            warmups = len(runner.times_us(profile_warmups(protocol)))
            runner.times_us(profile_runs(protocol))
            text = Path(runner.session.end_profiling()).read_text(encoding="utf-8")
            if original is not None and key not in self._nodes:
                self._nodes[key] = original_outputs(original, onnx.load(options.optimized_model_filepath))
                self._as_they_are |= {key} if named is model else set()
        return node_times(parse_profile(text, warmups), self._nodes[key])

    def _options(self) -> onnxruntime.SessionOptions:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _SILENT
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = _LEVELS[self.optimisation]
        if self._on_gpu:  # a network that runs half on the processor is refused instead of timed
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
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
            **({"cold": "only the processor's caches are emptied"} if self._on_gpu else {"layout": self._layout()}),
            "clock": self._clock_name,
            "library": library.name,
            "library_sha256": hashlib.sha256(library.read_bytes()).hexdigest(),
            "cores": ",".join(map(str, self.cores or machine.cores())),
            "pinned": "no" if self.cores is None else "yes",
            "spinning": "ONNX Runtime's default" if self.threads > 1 else "no pool",
            **machine.limits(),
        }

    def _layout(self) -> str:
        """Whether this build computes convolutions in channel blocks: it depends on the processor and the level."""
        with tempfile.TemporaryDirectory(prefix="amc-layout-") as folder:
            options = self._options()
            options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
            Runner(_one_convolution(), options, self._clock, self.provider)
            nodes = onnx.load(options.optimized_model_filepath).graph.node
        return "NCHWc" if any("nchwc" in node.domain for node in nodes) else "NCHW"


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

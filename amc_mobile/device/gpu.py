"""An NVIDIA GPU as a Device, through torch.

The graph that was handed in is run by torch's own kernels, with channels last. cuDNN chooses its kernels by its rules,
not by trials (`cudnn.benchmark` is off): trials would choose differently from session to session, and a latency table
would take that for a property of the channels. End-to-end times are replays of a CUDA graph between two events; the
times of nodes are taken by a process of their own (torch_nodes.py).

The torch device "cpu" runs the same code without graphs, by the wall's clock and in one process: it is there to be
tested with.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cached_property, partial

import numpy as np
import onnx
import torch
from onnx import TensorProto
from torch import Tensor

from amc_mobile.device import machine
from amc_mobile.device.node_times import middle_mean, name_uniquely
from amc_mobile.device.protocol import Progress
from amc_mobile.device.rounds import Record, profiled, timed, timed_runs, warmup_runs
from amc_mobile.device.torch_graph import TorchGraph, as_on_device, image_input
from amc_mobile.device.torch_nodes import NodeProcess
from amc_mobile.device.torch_runner import Action, TorchRunner
from amc_mobile.errors import DeviceError, GraphError, first_line
from amc_mobile.measurements import Conditions, DeviceInfo, Measurement, NodeTime, TimingJob, TimingProtocol
from amc_mobile.types import Precision

_DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_FRACTIONAL = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)
_WHOLE: dict[int, torch.dtype] = {
    TensorProto.INT64: torch.int64,
    TensorProto.INT32: torch.int32,
    TensorProto.UINT8: torch.uint8,
}
_SMI_TIMEOUT_S = 5.0


def describe() -> list[DeviceInfo]:
    """The GPUs that can be used now; none without a driver, a GPU, or a torch that is built for it."""
    try:
        return [TorchDevice(f"cuda:{index}").info() for index in range(torch.cuda.device_count())]
    except (DeviceError, RuntimeError):
        return []


class TorchDevice:
    """Torch on a GPU.

    Args:
        device: "cuda", "cuda:1", ...; "cpu" for tests.
        precision: "fp32" (without TF32), "fp16" or "bf16": weights, input and everything between them.
        batch: images in the models that it is handed.
        graphs: replay CUDA graphs; else the processor launches every kernel in every run.
    """

    def __init__(
        self, device: str = "cuda", *, precision: Precision = "fp32", batch: int = 1, graphs: bool = True
    ) -> None:
        """Raises: DeviceError if there is no such GPU, or for a precision that torch does not run networks in."""
        if precision not in _DTYPES:
            raise DeviceError(f"a GPU is measured in {', '.join(_DTYPES)}, not in {precision}; type --precision fp16")
        self._device = _find(device)
        self._on_gpu = self._device.type == "cuda"
        self.name, self.precision, self.batch = device.removesuffix(":0"), precision, batch
        self._graphs = graphs and self._on_gpu
        self._elsewhere = NodeProcess(str(self._device), precision)
        self._eager: dict[str, None] = {}  # the networks that could not be a CUDA graph

    def info(self) -> DeviceInfo:
        """This GPU and its torch. Networks that could not be a CUDA graph so far are in `details["eager"]`."""
        return DeviceInfo(
            name=self.name,
            model=torch.cuda.get_device_name(self._device) if self._on_gpu else machine.cpu_model(),
            os=machine.operating_system(),
            runtime=f"torch {torch.__version__}",
            provider="CUDA" if self._on_gpu else "CPU",
            precision=self.precision,
            threads=1,
            optimisation="graphs" if self._graphs else "eager",
            details={**self._details, **({"eager": ", ".join(self._eager)} if self._eager else {})},
            batch=self.batch,
            node_times=not self._on_gpu or _tells_kernel_times(),
        )

    def conditions(self) -> Conditions:
        """Load and governor of the machine; clock and heat of the GPU, if nvidia-smi tells them."""
        now = machine.conditions()
        values = self._ask("clocks.sm", "temperature.gpu")
        if len(values) != 2 or not all(value.isdigit() for value in values):
            return now
        return replace(now, clock_khz=(int(values[0]) * 1000,), temperature_celsius=float(values[1]))

    def time_models(
        self, jobs: Sequence[TimingJob], protocol: TimingProtocol, progress: Progress | None = None
    ) -> list[Measurement]:
        """Times several models, in a new shuffled order each round. Answers in the order of the jobs.

        Raises: DeviceError if a model does not load, does not run, or does not fit into the GPU's memory.
        """
        conditions = self.conditions()
        with self._current():
            measure = partial(self._measure, protocol)
            return timed(jobs, protocol, progress, conditions, measure, self._elsewhere.cpu_s)

    def node_times_us(self, job: TimingJob, protocol: TimingProtocol) -> list[list[float]]:
        """The times of every node of the model in each run of a profile, by this process.

        Afterwards its end-to-end times are no longer to be trusted. Raises: DeviceError as `time_models`.
        """
        with self._current():
            try:
                runner = self._open(onnx.load_from_string(job.model))
                return _node_times_us(runner, protocol, self._flush if protocol.cold else None)
            except DeviceError:
                raise
            except Exception as error:
                raise self._explained(job.label, error) from error

    def _measure(self, protocol: TimingProtocol, job: TimingJob, record: Record) -> None:
        try:
            model = onnx.load_from_string(job.model)
            name_uniquely(model)
            before = self._flush if protocol.cold else None
            runner = self._open(model)
            if self._graphs and not runner.captured:
                self._eager[job.label] = None
            record.warmups_us.append(runner.warm_up(warmup_runs(protocol), before))
            record.values_us.append(runner.times_us(timed_runs(protocol), before))
            if profiled(job, record.rounds - 1, protocol):
                if self._on_gpu:
                    times_us = self._elsewhere.times_us(job, protocol)
                else:
                    times_us = _node_times_us(runner, protocol, before)
                record.add_nodes(_as_nodes(model, times_us))
        except DeviceError:
            raise
        except Exception as error:
            raise self._explained(job.label, error) from error

    def _open(self, model: onnx.ModelProto) -> TorchRunner:
        dtype = _DTYPES[self.precision]
        graph = TorchGraph(model, self._device, dtype, deterministic=False)
        return TorchRunner(graph, as_on_device(_image(model), self._device, dtype), capture=self._graphs)

    def _explained(self, label: str, error: Exception) -> DeviceError:
        if any(isinstance(one, torch.OutOfMemoryError) for one in (error, error.__cause__)):
            return DeviceError(
                f"{label} does not fit into the memory of {self.name}: use a smaller batch, or end what else uses it"
            )
        reason = f"{error}" if isinstance(error, GraphError) else f"torch cannot run it: {first_line(error)}"
        return DeviceError(f"cannot time {label} on {self.name}: {reason[:300]}; --device host has all operators")

    @contextmanager
    def _current(self) -> Iterator[None]:
        """Streams and events that are made inside belong to this GPU; a processor computes on the calling thread."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with torch.cuda.device(self._device) if self._on_gpu else nullcontext():
                yield
        finally:
            torch.set_num_threads(threads)

    @cached_property
    def _flush(self) -> Action:
        """Empties the L2 cache: writes twice as much as it holds. It ends before the next run begins."""
        if not self._on_gpu:
            return machine.empty_caches
        size = 2 * torch.cuda.get_device_properties(self._device).L2_cache_size
        return torch.empty(size, dtype=torch.uint8, device=self._device).zero_

    @cached_property
    def _details(self) -> dict[str, str]:
        common = {"layout": "channels_last", "tf32": "off", "cudnn_benchmark": "off"}
        if not self._on_gpu:
            return {**common, "clock": "wall"}
        device = torch.cuda.get_device_properties(self._device)
        return {
            **common,
            "clock": "CUDA events",
            "cuda": str(torch.version.cuda),
            "cudnn": str(torch.backends.cudnn.version()),  # type: ignore[no-untyped-call]
            "driver": next(iter(self._ask("driver_version")), "unknown"),
            "capability": f"{device.major}.{device.minor}",
            "multiprocessors": str(device.multi_processor_count),
            "l2_bytes": str(device.L2_cache_size),
            "memory_bytes": str(device.total_memory),
        }

    def _ask(self, *fields: str) -> list[str]:
        """What nvidia-smi says about this GPU; nothing if there is no such program, or if it does not answer."""
        if not self._on_gpu:
            return []
        gpu = f"GPU-{torch.cuda.get_device_properties(self._device).uuid}"
        command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits", "-i", gpu]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_SMI_TIMEOUT_S, check=True)
        except (OSError, subprocess.SubprocessError):
            return []
        return [field.strip() for field in done.stdout.strip().split(",")]


def _find(name: str) -> torch.device:
    """The torch device of that name. Raises: DeviceError, with the reason, if it cannot be used."""
    device = torch.device(name)
    if device.type != "cuda":
        return device
    if not torch.cuda.is_available():
        raise DeviceError(f"there is no GPU that torch can use: {_why_none()}; type --device host")
    count = torch.cuda.device_count()
    if (device.index or 0) >= count:
        raise DeviceError(f"there is no {name}: torch sees {count} GPU{'s' * (count != 1)}; type --device cuda")
    return torch.device("cuda", device.index or 0)


def _why_none() -> str:
    if torch.version.cuda is None and torch.version.hip is None:
        return f"torch {torch.__version__} is built for processors only"
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        return first_line(error).partition(". ")[0].rstrip(".")
    return "its driver shows none (is CUDA_VISIBLE_DEVICES empty?)"


def _tells_kernel_times() -> bool:
    """Whether this torch was built with CUPTI, by which a profile knows what the GPU did."""
    known: set[torch.profiler.ProfilerActivity] = torch.profiler.supported_activities()  # type: ignore[no-untyped-call]
    return torch.profiler.ProfilerActivity.CUDA in known


def _image(model: onnx.ModelProto) -> Tensor:
    """Random input of the declared shape; free dimensions are 1. Raises: DeviceError for a type that is no image's."""
    item = image_input(model.graph)
    kind = item.type.tensor_type
    shape = [dim.dim_value if dim.dim_value > 0 else 1 for dim in kind.shape.dim]
    if kind.elem_type in _WHOLE:
        return torch.zeros(shape, dtype=_WHOLE[kind.elem_type])
    if kind.elem_type not in _FRACTIONAL:
        named = TensorProto.DataType.Name(kind.elem_type)
        raise DeviceError(f"input {item.name} has type {named}, which cannot be made up; use a float32 image input")
    return torch.from_numpy(np.random.default_rng(0).standard_normal(shape).astype(np.float32))


def _node_times_us(runner: TorchRunner, protocol: TimingProtocol, before: Action | None) -> list[list[float]]:
    return runner.node_times_us(protocol.profile_warmups, protocol.profile_runs, before)


def _as_nodes(model: onnx.ModelProto, times_us: Sequence[Sequence[float]]) -> list[NodeTime]:
    return [
        NodeTime(node.name, node.op_type, tuple(filter(None, node.output)), (middle_mean(values),))
        for node, values in zip(model.graph.node, times_us, strict=True)
    ]

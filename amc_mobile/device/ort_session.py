"""One session of ONNX Runtime with its inputs and outputs bound: a run copies nothing, and is timed by its clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime

from amc_mobile.device.rounds import Amount, repeated
from amc_mobile.errors import DeviceError

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_CUDA_OPTIONS = {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}  # the same kernels in every session
_TYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(uint8)": np.uint8,
}


class Runner:
    """A session and its clock. On a GPU, inputs and outputs stay there, and a run ends when the GPU has finished."""

    def __init__(
        self, model: bytes, options: onnxruntime.SessionOptions, clock_ns: Callable[[], int], provider: str = CPU
    ) -> None:
        """Raises: DeviceError if the provider does not start (ONNX Runtime would silently use the processor)."""
        self._clock_ns = clock_ns
        self._on_gpu = provider == CUDA
        providers = [(CUDA, _CUDA_OPTIONS)] if self._on_gpu else [provider]
        begin_ns = time.perf_counter_ns()
        self.session = onnxruntime.InferenceSession(model, options, providers=providers)
        self.load_us = (time.perf_counter_ns() - begin_ns) / 1000  # by the wall
        if provider not in self.session.get_providers():
            raise DeviceError(f"ONNX Runtime could not start {provider}; type --device cuda (torch) or --device host")
        self._binding = self.session.io_binding()
        rng = np.random.default_rng(0)
        self._inputs = {item.name: _values(item, rng) for item in self.session.get_inputs()}
        for name, values in self._inputs.items():
            if self._on_gpu:
                self._binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(values, "cuda", 0))
            else:
                self._binding.bind_cpu_input(name, values)
        for item in self.session.get_outputs():
            self._binding.bind_output(item.name, "cuda" if self._on_gpu else "cpu")

    def first_us(self) -> tuple[float, float]:
        """One run's time in µs by this session's clock, and by the wall."""
        begin_ns = time.perf_counter_ns()
        (by_clock,) = self.times_us(Amount(1))
        return by_clock, (time.perf_counter_ns() - begin_ns) / 1000

    def times_us(self, amount: Amount, before: Callable[[], None] | None = None) -> tuple[float, ...]:
        """Times in µs of so many runs, `before` each something untimed."""
        run, clock, binding = self.session.run_with_iobinding, self._clock_ns, self._binding
        wait = binding.synchronize_outputs if self._on_gpu else None

        def once() -> float:
            if before is not None:
                before()
            start = clock()
            run(binding)
            if wait is not None:
                wait()
            return (clock() - start) / 1000

        return repeated(once, amount)


def choose_clock(threads: int) -> tuple[Callable[[], int], str]:
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

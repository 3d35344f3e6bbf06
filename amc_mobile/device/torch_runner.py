"""One network on a torch device: run again and again, timed end to end or node by node.

On a GPU the whole network is one CUDA graph, replayed between two events: one launch instead of hundreds, as a service
that cares for latency runs it. What the processor takes to launch a kernel then no longer hides what the GPU takes to
run it. Node times come from a session of their own without a graph: the kernels of each node, as the GPU timed them.
They are read from the profiler's raw records, which takes a tenth of the time of torch's own summary.
"""

from __future__ import annotations

import os
import statistics
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._C._autograd import DeviceType

from amc_mobile.device.rounds import Amount, repeated
from amc_mobile.device.torch_graph import TorchGraph
from amc_mobile.errors import DeviceError, GraphError

SETTLED = 0.02  # how far successive warm-up runs may differ
_AGREEING = 5  # how many of them must not
_MOST_WARMUPS = 100
_CAPTURE_WARMUPS = 3  # runs before a capture, in which libraries make their choices and take their memory
_SILENT = ("KINETO_LOG_LEVEL", "99")  # torch's profiler tells stderr what it does; read when it is first used
_RANGE = "amc node "  # names a node's part of a profile

Action = Callable[[], object]


class Happening(NamedTuple):
    """One record of a profile: an operator or a launch on the processor, or a kernel on the GPU."""

    name: str
    start_ns: int
    duration_ns: int
    on_gpu: bool
    number: int  # of an operator
    operator: int  # the number of the operator that launched it; 0: it is an operator itself


class TorchRunner:
    """A network and its input on one device. `captured`: its runs are replays of a CUDA graph.

    Args:
        graph: the network, its weights on the device.
        image: its input, on the same device.
        capture: make a CUDA graph of it if it can be one; has no meaning on a processor.
    """

    def __init__(self, graph: TorchGraph, image: Tensor, *, capture: bool) -> None:
        """Raises: GraphError if torch cannot run a node."""
        self._graph, self._image = graph, image
        self._replayed: torch.cuda.CUDAGraph | None = None
        self._output = self._first_runs()
        if capture and image.is_cuda:
            self._capture()

    @property
    def captured(self) -> bool:
        """Whether a run is the replay of a CUDA graph."""
        return self._replayed is not None

    def run(self) -> Tensor:
        """The output. On a GPU it is not there yet, and a captured network writes the next one in the same place."""
        if self._replayed is None:
            return self._graph(self._image)
        self._replayed.replay()
        return self._output

    def warm_up(self, amount: Amount, before: Action | None = None) -> tuple[float, ...]:
        """Times in µs of the runs until five in a row agree within 2 %, or until there have been enough."""
        times_us: list[float] = []
        most, begin = max(amount.runs, _MOST_WARMUPS), time.perf_counter()
        while len(times_us) < amount.runs or (len(times_us) < most and not settled(times_us)):
            if len(times_us) >= amount.fewest and time.perf_counter() - begin >= amount.most_time_s:
                break
            times_us.append(self._time_us(before))
        return tuple(times_us)

    def times_us(self, amount: Amount, before: Action | None = None) -> tuple[float, ...]:
        """Times in µs of so many runs, `before` each something untimed. No garbage is collected meanwhile."""
        return repeated(lambda: self._time_us(before), amount)

    def node_times_us(self, warmups: int, runs: int, before: Action | None = None) -> list[list[float]]:
        """For every node of the graph, in its order, its time in µs in each run: that of its kernels on a GPU.

        Raises: DeviceError if torch does not tell the kernels' times.
        """
        os.environ.setdefault(*_SILENT)
        activities = [torch.profiler.ProfilerActivity.CPU]
        if self._image.is_cuda:
            activities.append(torch.profiler.ProfilerActivity.CUDA)
        with torch.profiler.profile(activities=activities) as trace:
            for _ in range(warmups + runs):
                if before is not None:
                    before()
                self._graph(self._image, _named_range)
                self._wait()
        times_us = [values[warmups:] for values in _range_times_us(_happenings(trace), self._image.is_cuda)]
        if not any(map(any, times_us)):
            raise DeviceError("this torch does not tell how long its GPU kernels take (no CUPTI): type --method layers")
        return times_us

    def _time_us(self, before: Action | None) -> float:
        if before is not None:
            before()
        if not self._image.is_cuda:
            start_ns = time.perf_counter_ns()
            self.run()
            return (time.perf_counter_ns() - start_ns) / 1000
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        self.run()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) * 1000

    def _first_runs(self) -> Tensor:
        """On a side stream, as torch asks for before a capture."""
        if not self._image.is_cuda:
            return self._graph(self._image)
        current = torch.cuda.current_stream()
        self._side.wait_stream(current)
        with torch.cuda.stream(self._side):
            for _ in range(_CAPTURE_WARMUPS):
                output = self._graph(self._image)
        current.wait_stream(self._side)
        self._wait()
        return output

    @cached_property
    def _side(self) -> torch.cuda.Stream:
        return torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def _capture(self) -> None:
        """Makes the CUDA graph, unless an operator makes the processor wait for the GPU, which no graph can hold.

        That is tried without a graph first, where the attempt leaves nothing behind.
        """
        graph, mode = torch.cuda.CUDAGraph(), torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("error")
        try:
            self._graph(self._image)
        except GraphError:
            return
        finally:
            torch.cuda.set_sync_debug_mode(mode)
        try:
            with torch.cuda.graph(graph, stream=self._side):
                output = self._graph(self._image)
        except (GraphError, RuntimeError):
            self._wait()
            return
        self._replayed, self._output = graph, output

    def _wait(self) -> None:
        if self._image.is_cuda:
            torch.cuda.synchronize()


def settled(times_us: Sequence[float]) -> bool:
    """Whether the last five times agree within 2 % of their median.

    >>> settled([90.0, 100.0, 101.0, 100.0, 100.0, 101.0]), settled([100.0, 100.0, 100.0, 100.0, 104.0])
    (True, False)
    """
    last = times_us[-_AGREEING:]
    return len(last) == _AGREEING and max(last) - min(last) <= SETTLED * statistics.median(last)


def _named_range(place: int) -> AbstractContextManager[Any]:
    return torch.profiler.record_function(f"{_RANGE}{place}")


def _happenings(trace: torch.profiler.profile) -> list[Happening]:
    records: Iterable[Any] = trace.profiler.kineto_results.events()  # type: ignore[union-attr]
    return [
        Happening(
            one.name(),
            one.start_ns(),
            one.duration_ns(),
            one.device_type() != DeviceType.CPU,
            one.correlation_id(),
            one.linked_correlation_id(),
        )
        for one in records
    ]


def _range_times_us(happenings: Sequence[Happening], on_gpu: bool) -> list[list[float]]:
    """The times of every range in the order in which it was entered, by the number in its name.

    On a GPU: what all kernels took that were launched inside. The range's own shadow on the GPU is not a kernel.
    """
    here = sorted((one for one in happenings if not one.on_gpu and one.operator == 0), key=lambda one: one.start_ns)
    ranges = [one for one in here if one.name.startswith(_RANGE)]
    if on_gpu:
        starts = [one.start_ns for one in ranges]
        within = {one.number: bisect_right(starts, one.start_ns) - 1 for one in here}
        taken_ns = [0] * len(ranges)
        for kernel in happenings:
            place = within.get(kernel.operator, -1) if kernel.on_gpu and not kernel.name.startswith(_RANGE) else -1
            if place >= 0:
                taken_ns[place] += kernel.duration_ns
    else:
        taken_ns = [one.duration_ns for one in ranges]
    times: dict[int, list[float]] = defaultdict(list)
    for one, taken in zip(ranges, taken_ns, strict=True):
        times[int(one.name.removeprefix(_RANGE))].append(taken / 1000)
    return [times[place] for place in sorted(times)]

"""The times of nodes, told by a process of their own.

Once torch's profiler has run, its tracing of the GPU stays in the process and slows every later kernel
(pytorch/pytorch#144455): MobileNet-V2 as a CUDA graph in fp16 took 369 µs on an H200, and 402 µs after a profile, with
spells of 440 µs. So the process that reads the clock end to end never profiles. The other one waits idle meanwhile.

A request is a line of JSON and behind it the model; an answer is a line of JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from dataclasses import asdict
from typing import IO, Any

from amc_mobile.errors import DeviceError
from amc_mobile.measurements import TimingJob, TimingProtocol
from amc_mobile.types import Precision

_END_TIMEOUT_S = 10.0


class NodeProcess:
    """Times of nodes on a torch device. The process is started when it is first asked, and ends with this object."""

    def __init__(self, device: str, precision: Precision) -> None:
        self._command = [sys.executable, "-m", __name__, device, precision]
        self._process: subprocess.Popen[bytes] | None = None
        self._cpu_s = [0.0]  # of every process so far

    def cpu_s(self) -> float:
        """Processor time that it has taken until its last answer."""
        return sum(self._cpu_s)

    def times_us(self, job: TimingJob, protocol: TimingProtocol) -> list[list[float]]:
        """For every node of the model, in its order, its time in µs in each run of a profile.

        Raises: DeviceError as TorchDevice.node_times_us does, and if the process ends.
        """
        if self._process is None:
            self._process = self._started()
            self._cpu_s.append(0.0)
        request = {"label": job.label, "bytes": len(job.model), "protocol": asdict(protocol)}
        answer = _asked(self._process, json.dumps(request).encode() + b"\n" + job.model)
        if not answer:
            ended, self._process = self._process, None
            raise DeviceError(
                f"the process that profiles {job.label} ended with code {ended.wait()}: type --method layers, which "
                "needs none"
            )
        told = json.loads(answer)
        self._cpu_s[-1] = told["cpu_s"]
        if "error" in told:
            raise DeviceError(told["error"])
        times_us: list[list[float]] = told["times_us"]
        return times_us

    def _started(self) -> subprocess.Popen[bytes]:
        """It finds this package where this process found it, and says nothing on the terminal."""
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        weakref.finalize(self, _end, process)
        return process


def serve(
    requests: IO[bytes], answers: IO[bytes], times_us: Callable[[TimingJob, TimingProtocol], list[list[float]]]
) -> None:
    """Answers requests until there are no more."""
    while line := requests.readline():
        asked = json.loads(line)
        job = TimingJob(asked["label"], requests.read(asked["bytes"]), profile=True)
        answer: dict[str, Any]
        try:
            answer = {"times_us": times_us(job, TimingProtocol(**asked["protocol"]))}
        except DeviceError as error:
            answer = {"error": str(error)}
        answers.write(json.dumps({**answer, "cpu_s": time.process_time()}).encode() + b"\n")
        answers.flush()


def _asked(process: subprocess.Popen[bytes], request: bytes) -> bytes:
    """The answer; empty if the process has ended."""
    if process.stdin is None or process.stdout is None:
        return b""
    try:
        process.stdin.write(request)
        process.stdin.flush()
        return process.stdout.readline()
    except BrokenPipeError:
        return b""


def _end(process: subprocess.Popen[bytes]) -> None:
    """Takes its input away, upon which it ends."""
    try:
        process.communicate(timeout=_END_TIMEOUT_S)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        process.kill()
        process.wait()


def main(device: str, precision: Precision) -> None:
    """Serves on stdin and stdout; what libraries print goes to stderr."""
    from amc_mobile.device.gpu import TorchDevice  # brings torch

    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)

    def times_us(job: TimingJob, protocol: TimingProtocol) -> list[list[float]]:
        return TorchDevice(device, precision=precision, graphs=False).node_times_us(job, protocol)

    serve(sys.stdin.buffer, answers, times_us)


if __name__ == "__main__":
    main(*sys.argv[1:])  # type: ignore[arg-type]

"""One attempt at a job, wherever it runs: an `amc` process of its own, so that a crash takes nothing else down."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from amc_mobile.sweep.board import Ended

ALONE = "amc_mobile.cli.leashed"  # the command line, in a process that ends when its parent ends
_LOOK_S = 0.2
_PATIENCE_S = 20.0  # to let a stage put down what it has
_TAIL_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Order:
    """What a node is told to do: the arguments of `amc`, where from if that folder is there, and where the log goes.

    Without `gpu` the process sees none, whatever the node has.
    """

    arguments: tuple[str, ...]
    cwd: str
    log: str
    gpu: bool = False
    module: str = ALONE


def attempt(order: Order, node: str) -> Ended:
    """Runs the command to its end, its words in the log. Never raises, but stops it when it is interrupted itself."""
    begun_s = time.time()
    log = Path(order.log)
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as stream:
            stream.write(f"# {_now()} {node}: amc {' '.join(order.arguments)}\n".encode())
            stream.flush()
            code = _run(order, stream.fileno())
    except OSError as error:
        return Ended(1, f"{order.log}: {error.strerror}", node, socket.gethostname(), begun_s, time.time())
    return Ended(code, last_word(log), node, socket.gethostname(), begun_s, time.time())


def _run(order: Order, log: int) -> int:
    """The exit code; negative if a signal ended the process."""
    cwd = order.cwd if Path(order.cwd).is_dir() else None
    environment = os.environ | ({} if order.gpu else {"CUDA_VISIBLE_DEVICES": ""})
    command = [sys.executable, "-m", order.module, str(os.getpid()), *order.arguments]
    started = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=cwd, env=environment)
    with _ended(started) as process:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):  # a wait that can be interrupted
                return process.wait(_LOOK_S)


@contextlib.contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Whatever happens, the process is gone in the end; it is asked before it is killed."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def last_word(log: Path) -> str:
    """The last line of a log, without the name of the program; empty if there is none."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - _TAIL_BYTES))
            text = stream.read().decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("amc: ") if lines else ""


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())

"""Debian's real adbd for benchmarks, unpacked by `make test-phone` and started in a network of its own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from android_bench.runner.cache import default_cache

ROOT = Path(__file__).parent.parent
PACKAGES = default_cache() / "counterparts" / "trixie" / "root"
TOOLS = "usr/lib/android-sdk/platform-tools"
DAEMON_PORT = 15_555
ADDRESS = f"127.0.0.1:{DAEMON_PORT}"


def inside(script: str, words: list[str]) -> dict[str, Any]:
    """What `script --inside WORDS` prints as JSON in a network of its own."""
    sys.path.insert(0, str(ROOT))
    from tests.phone.namespace import way_in

    if not way_in():
        raise SystemExit("the real adbd is only started in a network of its own, for which root is needed")
    with tempfile.TemporaryDirectory(dir=default_cache()) as temporary:  # what /tmp is in there
        prepared = [*way_in(), sys.executable, "-m", "tests.phone.namespace", temporary]
        command = [*prepared, sys.executable, str(Path(script).resolve()), "--inside", *words]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextmanager
def adbd(packages: Path = PACKAGES) -> Iterator[str]:
    """The real daemon at ADDRESS. Only for a network of its own: it lets everybody in."""
    os.environ["ADBD_PORT"] = str(DAEMON_PORT)
    with started(program(packages, "adbd"), DAEMON_PORT):
        yield ADDRESS


def program(packages: Path, name: str) -> list[str]:
    """How an unpacked program is started: by its own loader with its own libraries."""
    loader = next(packages.glob("**/ld-linux-*.so.*"))
    libraries = packages / "usr/lib" / f"{os.uname().machine}-linux-gnu"
    return [str(loader), "--library-path", f"{libraries}:{libraries / 'android'}", str(packages / TOOLS / name)]


@contextmanager
def started(command: list[str], port: int) -> Iterator[None]:
    """A program that listens on a port."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            end = time.monotonic() + 20
            while time.monotonic() < end and process.poll() is None:
                with socket.socket() as trial:
                    if trial.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            yield
        finally:
            process.terminate()

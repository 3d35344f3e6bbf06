"""The counterparts as fixtures. What is not there skips its tests, with the reason."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fakes.adbd_phone import Phone, linux
from tests.fakes.adbd_sandbox import Sandbox
from tests.phone import counterparts, namespace
from tests.phone.counterparts import Counterpart
from tests.phone.packages import Unavailable

_PORT = 15_555  # beyond those on which an adb server looks for emulators
_START_S = 20.0


def had(find: Callable[[], object]) -> object:
    """What was found, or the test is skipped."""
    try:
        return find()
    except Unavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def real_adbd(tmp_path_factory) -> Iterator[str]:
    """The address of Debian's adbd on this machine."""
    with _real_daemon(tmp_path_factory.mktemp("adbd"), linux(), _PORT) as address:
        yield address


@pytest.fixture(scope="session")
def arm_adbd(tmp_path_factory) -> Iterator[str]:
    """The same on a machine whose `uname` says that it is an arm64 one: its programs run in an emulator."""
    with _real_daemon(tmp_path_factory.mktemp("adbd"), linux(machine="aarch64"), _PORT + 1) as address:
        yield address


@contextmanager
def _real_daemon(folder: Path, machine: Phone, port: int) -> Iterator[str]:
    """The real adbd, which lets everybody in: only where nobody else is. Its commands are a phone's and no others."""
    daemon = had(counterparts.adbd)
    assert isinstance(daemon, Counterpart)
    if not namespace.alone():
        pytest.skip("the real adbd lets everybody in: only in a network of its own; type `make test-phone`")
    sandbox = Sandbox(folder / "machine")
    machine.fill(sandbox)
    environment = {"ADBD_PORT": str(port), "PATH": str(sandbox.path("/system/bin")), "HOME": "/"}
    with started(daemon.command, port, folder / "log", environment):
        yield f"127.0.0.1:{port}"


@pytest.fixture(params=["bookworm", "trixie"])
def any_adb(request, tmp_path) -> Iterator[Adb]:
    """Each adb client with a server of its own."""
    yield from _adb(request.param, tmp_path)


@pytest.fixture
def new_adb(tmp_path) -> Iterator[Adb]:
    """Debian's adb 34 with a server of its own."""
    yield from _adb("trixie", tmp_path)


def _adb(release: str, folder: Path) -> Iterator[Adb]:
    program = had(lambda: counterparts.adb(release))
    assert isinstance(program, Counterpart)
    adb = Adb(program, folder / "adb")
    with adb.server():
        yield adb


class Adb:
    """An adb client of Debian's, its keys in a folder of its own, and its server."""

    def __init__(self, program: Counterpart, home: Path) -> None:
        self.program = program
        self.home = home
        self.port = _free_port()
        home.mkdir(parents=True)

    @contextmanager
    def server(self) -> Iterator[None]:
        """A server in the foreground: in the background it would start itself by the name of its loader."""
        command = (*self.program.command, "-P", str(self.port), "server", "nodaemon")
        with started(command, self.port, self.home / "server.log", self.environment):
            yield

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"HOME": str(self.home), "ADB_MDNS": "0"}

    @property
    def public_key(self) -> str:
        return (self.home / ".android/adbkey.pub").read_text()

    def __call__(self, *words: str, stdin: bytes = b"", limit_s: float = 60.0) -> subprocess.CompletedProcess[bytes]:
        command = [*self.program.command, "-P", str(self.port), *words]
        return subprocess.run(
            command, input=stdin, capture_output=True, timeout=limit_s, env=self.environment, check=False
        )

    def connect(self, address: str) -> str:
        """Connects the server to a daemon, waiting for its owner if need be; what it says."""
        said = self("connect", address).stdout.decode()
        for _ in range(50):
            if f"{address}\tdevice" in self.devices():
                break
            time.sleep(0.1)
        return said

    def devices(self) -> str:
        return self("devices").stdout.decode()


@contextmanager
def started(command: tuple[str, ...], port: int, log: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """A program that listens on a port, for as long as it is wanted."""
    with log.open("wb") as said:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            env=environment,
            start_new_session=True,
        )
    try:
        _wait_for(port, process, log)
        yield
    finally:
        process.terminate()
        try:
            process.wait(5.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _START_S
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"{process.args} does not listen on {port}: {log.read_text(errors='replace')[-2000:]}")


def _free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


@pytest.fixture(scope="session")
def qemu() -> tuple[str, ...]:
    """The words before a program for arm64."""
    found = had(counterparts.qemu)
    assert isinstance(found, Counterpart)
    return found.command


@pytest.fixture
def clean_tmp() -> Iterator[str]:
    """A folder on this machine's disk that a daemon of Linux is given."""
    folder = Path(f"/tmp/amc-suite-{os.getpid()}")  # noqa: S108 - also on the other side
    folder.mkdir()
    yield str(folder)
    shutil.rmtree(folder, ignore_errors=True)

"""The seam itself: what is tried again, how long a phone is waited for, what a text may do to a shell or terminal."""

from __future__ import annotations

import doctest
import shlex
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amc_mobile.errors import DeviceError
from android_bench import adb as module
from android_bench.adb import Adb, Address, ConnectionLost, ProtocolError, Refused, ShellResult, printable, quote

ADDRESS = Address("tcp", "phone:5555")


class Moody:
    """A connection that fails as it is told to, and its maker."""

    def __init__(self, *moods: Exception | None) -> None:
        self.moods = list(moods)  # of each connecting and each action; then nothing more fails
        self.opened = self.closed = self.acted = 0

    def connect(self, address: Address) -> Moody:
        self._feel()
        self.opened += 1
        return self

    def shell(self, command: str, **options) -> ShellResult:
        self.acted += 1
        self._feel()
        return ShellResult(0, command.encode(), b"")

    def push(self, data: bytes, remote: str, **options) -> None:
        self.acted += 1
        self._feel()

    def pull(self, remote: str, *, most_bytes: int) -> bytes:
        self.acted += 1
        self._feel()
        return b"pulled"

    def close(self) -> None:
        self.closed += 1

    def _feel(self) -> None:
        if self.moods and (mood := self.moods.pop(0)):
            raise mood


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def adb_with(*moods: Exception | None) -> tuple[Adb, Moody, Clock]:
    moody, clock = Moody(*moods), Clock()
    return Adb(ADDRESS, moody.connect, sleep=clock.sleep, clock=clock), moody, clock


def lost() -> ConnectionLost:
    return ConnectionLost("gone; plug it in")


def test_nothing_is_opened_before_it_is_needed():
    adb, moody, _ = adb_with()
    assert moody.opened == 0
    adb.push(b"", "/x")
    adb.pull("/x", most_bytes=1)
    assert moody.opened == 1


@pytest.mark.parametrize(
    "act",
    [
        lambda adb: adb.push(b"", "/x"),
        lambda adb: adb.pull("/x", most_bytes=1),
        lambda adb: adb.shell("x", timeout_s=1, again=True),
    ],
)
def test_what_may_be_done_again_is(act):
    adb, moody, clock = adb_with(None, lost(), lost(), lost(), None, lost())
    act(adb)  # opened, lost; away twice, back, lost again; back, done
    assert (moody.acted, moody.opened, moody.closed) == (3, 3, 2)
    assert 0 < clock.now_s < 60


def test_but_not_for_ever():
    adb, moody, _ = adb_with(*[None, lost()] * 50)
    with pytest.raises(ConnectionLost):
        adb.push(b"", "/x")
    assert moody.acted == 4


def test_a_command_is_not_run_twice_unasked():
    adb, moody, _ = adb_with(None, lost())
    with pytest.raises(ConnectionLost):
        adb.shell("x", timeout_s=1)
    assert moody.acted == 1
    assert adb.shell("y", timeout_s=1).stdout == b"y"  # over a new connection


@pytest.mark.parametrize("error", [Refused("no"), DeviceError("too long")])
def test_what_the_phone_refuses_is_not_asked_twice(error):
    adb, moody, _ = adb_with(None, error)
    with pytest.raises(type(error)):
        adb.push(b"", "/x")
    assert (moody.acted, moody.closed) == (1, 0)


def test_a_connection_that_speaks_garbage_is_not_used_again():
    adb, moody, _ = adb_with(None, ProtocolError("what?"))
    with pytest.raises(ProtocolError):
        adb.push(b"", "/x")
    adb.push(b"", "/x")
    assert (moody.opened, moody.closed) == (2, 1)


def test_waiting_ends():
    adb, moody, clock = adb_with(*[lost()] * 1000)
    with pytest.raises(ConnectionLost, match="waited for 30 s"):
        adb.reconnect(30.0)
    assert 20 < clock.now_s <= 30
    assert 1000 - len(moody.moods) < 20  # it does not knock without pause


def test_waiting_ends_at_once_when_the_phone_refuses():
    adb, _, clock = adb_with(lost(), Refused("no"))
    with pytest.raises(Refused):
        adb.reconnect(30.0)
    assert clock.now_s < 1


@given(st.text(st.characters(exclude_characters="\0\n\r", exclude_categories=["Cs"])))
def test_quoted_text_is_one_word(text):
    assert shlex.split(f"x {quote(text)} y") == ["x", text, "y"]


@given(st.text() | st.binary(), st.integers(1, 50))
def test_whatever_a_phone_says_is_printable(text, most):
    said = printable(text, most)
    assert said.isprintable() and len(said) <= most


def test_its_examples():
    assert not doctest.testmod(module).failed


def test_importing_it_is_quick():
    """No library of any transport is imported before it is needed."""
    script = "import sys, android_bench.adb; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True).stdout.split()
    assert not {"adb_shell", "adbutils", "usb1", "numpy", "cryptography", "onnx"} & set(modules)

"""One phone over ADB: run a command, push a file, pull a file, and come back when the cable was pulled.

`Adb` is what the rest of the package holds. It opens a `Connection` (direct.py: USB or TCP; server.py: a running adb
server) when it first needs one, and again when it was lost.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from amc_mobile.errors import DeviceError

MOST_OUTPUT_BYTES = 16 * 2**20
_TRIES = 4  # of what may be done again
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0

T = TypeVar("T")


class ConnectionLost(DeviceError):
    """The cable, the daemon or the phone went away: may be tried again after reconnecting."""


class Refused(DeviceError):
    """The phone answered, and said no (unauthorised, no such file, disk full): trying again is of no use."""


class DiskFull(Refused):
    """There is no room for the file."""


class TooSlow(DeviceError):
    """A command took longer, or was silent for longer, than it may; it was ended, and the phone is still there."""


class ProtocolError(DeviceError):
    """What is at the other end does not speak ADB, or breaks its rules. The connection was cut."""


@dataclass(frozen=True, slots=True)
class ShellResult:
    """What one command said, and its exit code."""

    code: int
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True, slots=True)
class Address:
    """How to reach one phone. `serial`: a USB serial, HOST:PORT, or the serial as the adb server knows it."""

    transport: Literal["usb", "tcp", "server"]
    serial: str

    def __str__(self) -> str:
        return printable(self.serial)


class Connection(Protocol):
    """One open transport to one phone. Not for several threads at once."""

    def shell(
        self,
        command: str,
        *,
        timeout_s: float,
        silent_s: float | None = None,
        on_stdout: Callable[[bytes], None] | None = None,
        most_bytes: int = MOST_OUTPUT_BYTES,
    ) -> ShellResult:
        """The exit code and both streams of a /system/bin/sh command, whose parts the caller has quoted.

        It has `timeout_s` in all, silent or flooding, and may be silent for `silent_s`; after that it is killed. With
        `on_stdout`, stdout is handed over as it arrives and the result's is empty. Raises: TooSlow; DeviceError, also
        for more than `most_bytes` of either stream.
        """

    def push(
        self,
        data: bytes,
        remote: str,
        *,
        mode: int = 0o644,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Write a file there. `progress` gets the bytes sent and in all. Raises: DeviceError."""

    def pull(self, remote: str, *, most_bytes: int) -> bytes:
        """What a file there holds. Raises: DeviceError, also if it is longer than `most_bytes`."""

    def close(self) -> None:
        """End it; a command that still runs is killed. Never raises."""


def connect(
    address: Address,
    *,
    notice: Callable[[str], None] | None = None,
    authorise_s: float = 60.0,
) -> Connection:
    """An open connection to the phone at `address`.

    A phone that does not know our key yet asks its owner: `notice` gets one line that says so, and the answer is
    waited for up to `authorise_s`. Raises: ConnectionLost, Refused, ProtocolError, DeviceError.
    """
    if address.transport == "server":
        from android_bench.server import connect as connect_through_server

        return connect_through_server(address.serial)
    from android_bench.direct import connect as connect_directly

    return connect_directly(address, notice=notice, authorise_s=authorise_s)


class Adb:
    """One phone. Implements Connection, and opens the connection again when it was lost.

    Nothing is opened before it is needed. `connect` makes a Connection; time is injected for tests.
    """

    def __init__(
        self,
        address: Address,
        connect: Callable[[Address], Connection] = connect,
        *,
        wait_s: float = 60.0,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`wait_s`: how long a phone that went away is waited for, each time."""
        self.address = address
        self._connect = connect
        self._wait_s = wait_s
        self._sleep = sleep
        self._clock = clock
        self._connection: Connection | None = None
        self._met = False  # a phone that was never there is not waited for

    def shell(
        self,
        command: str,
        *,
        timeout_s: float,
        silent_s: float | None = None,
        on_stdout: Callable[[bytes], None] | None = None,
        most_bytes: int = MOST_OUTPUT_BYTES,
        again: bool = False,
    ) -> ShellResult:
        """As Connection's. With `again`, it is run once more when the phone went away meanwhile.

        Raises: ConnectionLost, Refused, DeviceError.
        """

        def run(connection: Connection) -> ShellResult:
            return connection.shell(
                command, timeout_s=timeout_s, silent_s=silent_s, on_stdout=on_stdout, most_bytes=most_bytes
            )

        return self._try(run, _TRIES if again else 1)

    def push(
        self,
        data: bytes,
        remote: str,
        *,
        mode: int = 0o644,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """As Connection's; starts again when the phone went away meanwhile."""
        self._try(lambda connection: connection.push(data, remote, mode=mode, progress=progress), _TRIES)

    def pull(self, remote: str, *, most_bytes: int) -> bytes:
        """As Connection's; starts again when the phone went away meanwhile."""
        return self._try(lambda connection: connection.pull(remote, most_bytes=most_bytes), _TRIES)

    def reconnect(self, wait_s: float = 60.0) -> None:
        """Open the connection anew, waiting up to `wait_s` for a phone that is away.

        Raises: ConnectionLost if it does not come back; Refused if it is there and refuses.
        """
        self.close()
        end, pause_s = self._clock() + wait_s, _FIRST_PAUSE_S
        while True:
            try:
                self._open()
                return
            except ConnectionLost as error:
                if self._clock() + pause_s >= end:
                    raise ConnectionLost(f"{error}; it was waited for {wait_s:.0f} s") from error
            self._sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def close(self) -> None:
        """End the connection; the next call opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _try(self, action: Callable[[Connection], T], tries: int) -> T:
        """The action's result, tried `tries` times while the phone goes away and comes back."""
        while True:
            tries -= 1
            try:
                return action(self._connection or self._open())
            except ProtocolError:
                self.close()
                raise
            except ConnectionLost:
                self.close()
                if tries <= 0 or not self._met:
                    raise
            self.reconnect(self._wait_s)

    def _open(self) -> Connection:
        self._connection = self._connect(self.address)
        self._met = True
        return self._connection


def quote(text: str) -> str:
    """`text` as one word of a sh command. Raises: DeviceError for NUL and line breaks, which no name of ours holds."""
    if any(letter in text for letter in "\0\n\r"):
        raise DeviceError(f"'{printable(text)}' holds a line break or NUL and is not sent to a phone; rename it")
    return shlex.quote(text)


def printable(text: str | bytes, most: int = 200) -> str:
    r"""What a phone said, fit for one line of a terminal: no control characters, at most `most` letters.

    >>> printable(b"Pixel\x1b[2J 8\n")
    'Pixel\\x1b[2J 8'
    """
    if isinstance(text, bytes):
        text = text[: 4 * most].decode("utf-8", "backslashreplace")
    text = text[: 4 * most].strip()
    shown = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
    return shown if len(shown) <= most else shown[: most - 1] + "…"

"""A phone through an adb server that runs already: shared USB cables and wireless debugging with pairing.

adbutils (extra `adbutils`) speaks to the server; commands and files are those of services.py. The server is never
started from here: adbutils would, so its connection is one that does not.
"""

from __future__ import annotations

import os
import re
import select
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING

from amc_mobile.errors import DeviceError, first_line
from android_bench.adb import Connection, ConnectionLost, ProtocolError, Refused, printable
from android_bench.services import Services
from android_bench.streams import Deadline, TimedOut

if TYPE_CHECKING:
    from adbutils import AdbConnection

PORT = 5037
_ASK_S = 10.0
_CLOSE_S = 5.0
_BLOCK_BYTES = 1 << 20
_SPEC = re.compile(r"tcp:(?:(?P<host>\[[0-9a-fA-F:]+\]|[^:\[\]]+):)?(?P<port>\d{1,5})")


def connect(serial: str) -> Connection:
    """An open connection to a phone as the running adb server knows it. Raises: Refused, ConnectionLost."""
    return Services(ServerLink(serial))


def place(environment: Mapping[str, str] = os.environ) -> tuple[str, int]:
    """Host and port of the adb server, as adb itself finds them. Raises: DeviceError for what it would not take."""
    if spec := environment.get("ADB_SERVER_SOCKET"):
        found = _SPEC.fullmatch(spec)
        if not found:
            raise DeviceError(f"ADB_SERVER_SOCKET is '{printable(spec)}'; set it to tcp:HOST:PORT, or unset it")
        return (found["host"] or "127.0.0.1").strip("[]"), int(found["port"])
    port = environment.get("ANDROID_ADB_SERVER_PORT") or str(PORT)
    if not port.isdecimal() or not 0 < int(port) < 2**16:
        raise DeviceError(f"ANDROID_ADB_SERVER_PORT is '{printable(port)}'; set it to a port, or unset it")
    return environment.get("ANDROID_ADB_SERVER_ADDRESS") or "127.0.0.1", int(port)


def phones() -> list[tuple[str, str, str]]:
    """Serial, state and model of each phone that the server knows; states are adb's own words.

    Raises: ConnectionLost if no server runs; Refused if adbutils is missing.
    """
    with _asked("host:devices-l", "the adb server") as connection:
        listing = _understood(connection, "the adb server")
    rows = [line.split() for line in listing.splitlines()]
    return [(row[0], row[1], _model(row)) for row in rows if len(row) > 1]


class ServerLink:
    """Streams to one phone, each a connection to the server. Implements streams.Opener."""

    def __init__(self, serial: str) -> None:
        """Raises: Refused for a phone that is offline or not authorised; ConnectionLost if it or the server is gone."""
        self.name = printable(serial)
        self._serial = serial
        self._open: list[ServerStream] = []
        with _asked(f"host-serial:{serial}:features", self.name) as connection:
            self.features = frozenset(_understood(connection, self.name).strip().split(","))

    def open(self, service: bytes, deadline: Deadline) -> ServerStream:
        """A stream to one service. Raises: Refused, ConnectionLost, TimedOut."""
        connection = _asked(f"host:transport:{self._serial}", self.name)
        try:
            connection.conn.settimeout(deadline.left_s())
            connection.conn.sendall(b"%04x" % len(service) + service)
            _checked(connection, self.name)
        except BaseException:
            connection.close()
            raise
        self._open = [stream for stream in self._open if not stream.closed]
        self._open.append(ServerStream(connection, self.name, self._serial))
        return self._open[-1]

    def close(self) -> None:
        """End all streams."""
        while self._open:
            self._open.pop().close()


class ServerStream:
    """Bytes to and from one service, through the server's socket. Implements streams.Stream."""

    block_bytes = _BLOCK_BYTES

    def __init__(self, connection: AdbConnection, name: str, serial: str) -> None:
        self.closed = False
        self._connection = connection
        self._socket: socket.socket = connection.conn
        self._name = name
        self._serial = serial

    def read(self, deadline: Deadline) -> bytes:
        """The next bytes; none at the end."""
        try:
            self._socket.settimeout(deadline.left_s())
            return self._socket.recv(self.block_bytes)
        except TimeoutError as error:
            raise TimedOut("the time is up") from error
        except OSError as error:
            raise _lost(self._name, error) from error

    def write(self, data: bytes, deadline: Deadline) -> bool:
        """Send it; False if the phone spoke or hung up before all was sent."""
        view = memoryview(data)
        while view:
            readable, writable, _ = select.select([self._socket], [self._socket], [], deadline.left_s())
            if readable:
                return False
            if writable:
                view = view[self._sent(view) :]
        return True

    def close(self) -> None:
        """End the service."""
        if not self.closed:
            self.closed = True
            self._socket.close()  # at once: adbutils' own close() waits

    def answers(self) -> bool:
        """Whether the server still sees the phone."""
        try:
            with _asked(f"host-serial:{self._serial}:get-state", self._name) as connection:
                return _understood(connection, self._name) == "device"
        except DeviceError:
            return False

    def _sent(self, view: memoryview) -> int:
        try:
            self._socket.setblocking(False)
            return self._socket.send(view)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise _lost(self._name, error) from error


def _asked(question: str, name: str) -> AdbConnection:
    """A connection to the server, which has said OKAY to `question`. Raises: Refused, ConnectionLost."""
    try:
        from adbutils import AdbConnection
    except ImportError as error:
        raise Refused(
            "phones behind an adb server need a package that is missing; type `pip install 'amc-mobile[adbutils]'`"
        ) from error

    class Unstarted(AdbConnection):  # type: ignore[misc]  # adbutils has no types
        """Does not start a server where there is none."""

        def _safe_connect(self) -> socket.socket:
            made: socket.socket = self._create_socket()
            return made

    host, port = place()
    try:
        connection = Unstarted(host, port)
    except Exception as error:
        raise ConnectionLost(
            f"no adb server answers at {printable(host)}:{port}; type `adb start-server`, or use USB or HOST:PORT"
        ) from error
    try:
        connection.conn.settimeout(_ASK_S)
        connection.send_command(question)
        _checked(connection, name)
    except BaseException:
        connection.close()
        raise
    return connection


def _checked(connection: AdbConnection, name: str) -> None:
    """Takes the server's OKAY. Raises: Refused with its reason, ConnectionLost, ProtocolError."""
    try:
        answer = connection.read_exact(4)
        if answer == b"OKAY":
            return
        if answer != b"FAIL":
            raise ProtocolError(f"what answers for {name} is no adb server; see what listens on its port")
        reason = connection.read_string_block()
    except DeviceError:
        raise
    except Exception as error:
        raise _lost(name, error) from error
    raise refusal(name, printable(reason))


def _understood(connection: AdbConnection, name: str) -> str:
    """The text that the server answers with. Raises: ConnectionLost."""
    try:
        text: str = connection.read_string_block()
    except Exception as error:
        raise _lost(name, error) from error
    return text


def refusal(name: str, reason: str) -> DeviceError:
    """What the server's reason means for whoever wants the phone."""
    if "unauthorized" in reason:
        return Refused(f"{name} does not trust this computer; unlock it and tap 'Allow' on its screen, then try again")
    if any(word in reason for word in ("offline", "not found", "no devices", "still ")):  # "still authorizing"
        return ConnectionLost(f"the adb server cannot reach {name} ({reason}); plug it in again, type `amc devices`")
    if reason == "closed":
        return Refused(f"{name} refuses what it was asked; restart the phone, then try again")
    return Refused(f"the adb server refuses {name} ({reason}); type `adb devices`")


def _lost(name: str, error: Exception) -> ConnectionLost:
    return ConnectionLost(
        f"the connection to {name} through the adb server was lost ({printable(first_line(error))}); "
        "check the cable, then run the command again"
    )


def _model(row: list[str]) -> str:
    """The model in a line of `adb devices -l`."""
    return next((word.removeprefix("model:").replace("_", " ") for word in row[2:] if word.startswith("model:")), "")

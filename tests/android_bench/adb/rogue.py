"""A daemon that follows a script: it answers whatever it is told to, or never stops."""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
from collections.abc import Callable, Iterator
from functools import partial

from android_bench.packets import AUTH, CLSE, CNXN, OKAY, OPEN, VERSION, WRTE
from tests.fakes.listening import Port

__all__ = ["AUTH", "CLSE", "CNXN", "OKAY", "OPEN", "VERSION", "WRTE", "Rogue", "Talk", "packet"]

_HEADER = struct.Struct("<6I")


def packet(
    command: int,
    arg0: int = 0,
    arg1: int = 0,
    payload: bytes = b"",
    *,
    length: int | None = None,
    check: int | None = None,
    magic: int | None = None,
) -> bytes:
    """One packet, with any of its parts wrong."""
    return (
        _HEADER.pack(
            command,
            arg0,
            arg1,
            len(payload) if length is None else length,
            sum(payload) & 0xFFFFFFFF if check is None else check,
            command ^ 0xFFFFFFFF if magic is None else magic,
        )
        + payload
    )


class Talk:
    """The rogue's end of one connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.client = 0  # the client's number of the stream it opened last

    def send(self, data: bytes) -> None:
        self._connection.sendall(data)

    def endlessly(self, pieces: Iterator[bytes] | bytes) -> None:
        """Sends on and on, until the client has had enough."""
        for piece in itertools.repeat(pieces) if isinstance(pieces, bytes) else pieces:
            self.send(piece)

    def receive(self) -> tuple[int, int, int, bytes]:
        """Command, both arguments and payload of the client's next packet."""
        command, arg0, arg1, length, _, _ = _HEADER.unpack(self._exactly(_HEADER.size))
        return command, arg0, arg1, self._exactly(length)

    def welcome(self, features: bytes = b"shell_v2", version: int = VERSION, most: int = 1 << 20) -> None:
        """The handshake of an honest daemon."""
        self.receive()
        self.send(packet(CNXN, version, most, b"device::ro.product.model=Rogue;features=" + features))

    def opened(self) -> bytes:
        """Accepts the stream that the client opens; answers the service's name."""
        while True:
            command, self.client, _, payload = self.receive()
            if command == OPEN:
                self.send(packet(OKAY, 1, self.client))
                return payload

    def say(self, data: bytes) -> None:
        """Data on that stream."""
        self.send(packet(WRTE, 1, self.client, data))

    def written(self) -> bytes:
        """What the client writes next."""
        while True:
            command, _, _, payload = self.receive()
            if command == WRTE:
                self.send(packet(OKAY, 1, self.client))
                return payload

    def wait(self) -> None:
        """Says nothing more, and listens until the client goes."""
        with contextlib.suppress(OSError):
            while self._connection.recv(1 << 16):
                pass

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self._connection.recv(count - len(data))
            if not piece:
                raise ConnectionResetError
            data += piece
        return data


class Rogue:
    """Listens on loopback, and plays the script to each connection."""

    def __init__(self, script: Callable[[Talk], None]) -> None:
        self._script = script
        self._port = Port(self._meet)
        self.address = self._port.address
        self.connections = 0

    def __enter__(self) -> Rogue:
        self._port.open()
        return self

    def __exit__(self, *_: object) -> None:
        self._port.close()

    def _meet(self, connection: socket.socket) -> Callable[[], None]:
        self.connections += 1
        return partial(self._play, connection)

    def _play(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            self._script(Talk(connection))

"""Packets of the ADB protocol over one socket, in both its versions: with checksums, and (since 2017) without.

A packet is six little-endian 32-bit numbers (command, two arguments, length, checksum, command inverted) and its data.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from dataclasses import dataclass

CHECKED = 0x01000000  # version of the protocol in which every packet's bytes are summed up
UNCHECKED = 0x01000001
MOST_DATA = 2**20
_HEADER = struct.Struct("<6I")


def _command(name: str) -> int:
    return int.from_bytes(name.encode(), "little")


CNXN, AUTH, OPEN, OKAY, WRTE, CLSE, STLS = map(_command, ("CNXN", "AUTH", "OPEN", "OKAY", "WRTE", "CLSE", "STLS"))


class Gone(Exception):
    """The other side is gone, or was sent away."""


@dataclass(frozen=True, slots=True)
class Packet:
    command: int
    first: int
    second: int
    data: bytes = b""

    @property
    def name(self) -> str:
        return self.command.to_bytes(4, "little").decode("latin-1")

    def encoded(self, version: int, *, spoil_checksum: bool = False) -> bytes:
        checksum = sum(self.data) & 0xFFFFFFFF if version == CHECKED else 0
        if spoil_checksum:
            checksum ^= 0x5A5A
        return (
            _HEADER.pack(self.command, self.first, self.second, len(self.data), checksum, self.command ^ 0xFFFFFFFF)
            + self.data
        )


class Link:
    """One connection: sends and receives whole packets. Sending is safe from several threads."""

    def __init__(self, connection: socket.socket, bytes_per_s: float | None = None) -> None:
        self._socket = connection
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sending = threading.Lock()
        self._bytes_per_s = bytes_per_s
        self.version = CHECKED  # until both sides have said theirs
        self.most_data = 4096
        self.spoil_checksums = False

    def send(self, packet: Packet) -> None:
        """Raises: Gone."""
        self.send_raw(packet.encoded(self.version, spoil_checksum=self.spoil_checksums))

    def send_raw(self, data: bytes) -> None:
        """Bytes as they are, packets or not. Raises: Gone."""
        with self._sending:
            try:
                self._slowly(len(data))
                self._socket.sendall(data)
            except OSError as error:
                raise Gone from error

    def receive(self) -> Packet:
        """The next packet. Raises: Gone, also for what is no packet: a daemon hangs up on such a client."""
        command, first, second, length, checksum, inverted = _HEADER.unpack(self._exactly(_HEADER.size))
        if inverted != command ^ 0xFFFFFFFF or length > MOST_DATA:
            raise Gone
        data = self._exactly(length)
        if self.version == CHECKED and checksum and checksum != sum(data) & 0xFFFFFFFF:
            raise Gone
        return Packet(command, first, second, data)

    def drop(self) -> None:
        """Ends the connection at once, as a pulled cable does."""
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it had ended already

    def close(self) -> None:
        """Gives the socket back. Only the thread that receives may call it."""
        self.drop()
        self._socket.close()

    def _exactly(self, count: int) -> bytes:
        data = bytearray(count)
        view, got = memoryview(data), 0
        while got < count:
            try:
                now = self._socket.recv_into(view[got:], count - got)
            except OSError as error:
                raise Gone from error
            if not now:
                raise Gone
            got += now
        self._slowly(count)
        return bytes(data)

    def _slowly(self, count: int) -> None:
        if self._bytes_per_s:
            time.sleep(count / self._bytes_per_s)

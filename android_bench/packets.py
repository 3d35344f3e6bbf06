"""ADB's packets: 24 bytes of header, then up to the agreed length of payload. Every header is judged before one byte of
its payload is read, so a hostile daemon costs no memory.

The protocol is described in AOSP, packages/modules/adb/protocol.txt.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from android_bench.adb import ProtocolError, printable
from android_bench.streams import Deadline
from android_bench.wires import Wire

OLD_VERSION = 0x01000000
VERSION = 0x01000001  # from here on payloads carry no checksum
MOST_PAYLOAD_BYTES = 1 << 20
LEAST_PAYLOAD_BYTES = 4096  # what every daemon takes

_HEADER = struct.Struct("<6I")
_MASK = 0xFFFFFFFF
CNXN, AUTH, OPEN, OKAY, CLSE, WRTE, STLS = (
    int.from_bytes(name, "little") for name in (b"CNXN", b"AUTH", b"OPEN", b"OKAY", b"CLSE", b"WRTE", b"STLS")
)
_KNOWN = frozenset((CNXN, AUTH, OPEN, OKAY, CLSE, WRTE, STLS))


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet as it came."""

    command: int
    arg0: int
    arg1: int
    payload: bytes


class PacketLink:
    """Packets over a wire, as long and as checked as both sides agreed."""

    def __init__(self, wire: Wire, name: str) -> None:
        self.name = name
        self.version = OLD_VERSION
        self.payload_bytes = MOST_PAYLOAD_BYTES  # our own offer holds until the daemon makes a smaller one
        self._wire = wire
        self._header = b""  # of a packet whose payload was not there in time

    def agree(self, version: int, payload_bytes: int) -> None:
        """Go on with what both sides can do. Raises: ProtocolError for a length that no daemon has."""
        if payload_bytes < LEAST_PAYLOAD_BYTES:
            raise self.broken(f"it takes {payload_bytes} bytes at once, less than any phone")
        self.version = min(version, VERSION)
        self.payload_bytes = min(payload_bytes, MOST_PAYLOAD_BYTES)

    def send(self, command: int, arg0: int, arg1: int, payload: bytes | memoryview, deadline: Deadline) -> None:
        """Send one packet. Raises: ConnectionLost, TimedOut."""
        check = checksum(payload) if self.version < VERSION else 0
        header = _HEADER.pack(command, arg0, arg1, len(payload), check, command ^ _MASK)
        self._wire.send(header, payload, deadline)

    def receive(self, deadline: Deadline) -> Packet:
        """The next packet. Raises: ConnectionLost, TimedOut; ProtocolError for what is no packet."""
        header = self._header = self._header or self._wire.receive(_HEADER.size, deadline)
        command, arg0, arg1, length, check, magic = _HEADER.unpack(header)
        if command not in _KNOWN or magic != command ^ _MASK:
            raise self.broken(f"it sent '{printable(header, 40)}'")
        if length > self.payload_bytes:
            raise self.broken(f"it announced {length} bytes where {self.payload_bytes} are the most")
        payload = self._wire.receive(length, deadline) if length else b""
        self._header = b""
        checked = self.version < VERSION and not (command == CNXN and arg0 >= VERSION)
        if checked and check != checksum(payload):
            raise self.broken("a checksum is wrong")
        return Packet(command, arg0, arg1, payload)

    def waiting(self) -> bool:
        """Whether a packet has begun to arrive, as far as that is known."""
        return self._wire.waiting()

    def broken(self, what: str) -> ProtocolError:
        """The error for a daemon that breaks the rules."""
        return ProtocolError(
            f"{self.name} does not speak ADB as it should ({what}); check the address with `amc devices`, "
            "or restart the phone"
        )

    def close(self) -> None:
        """End it."""
        self._wire.close()


def checksum(payload: bytes | memoryview) -> int:
    """The sum of all bytes, which old daemons want (and call a CRC)."""
    return int(np.frombuffer(payload, np.uint8).sum(dtype=np.uint64)) & _MASK

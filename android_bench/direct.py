"""A phone without an adb server in between: our side of ADB's packet protocol, over adb-shell's TCP and USB transports.

adb-shell's own `AdbDevice` throws the daemon's features away, hangs on a refused OPEN, keeps whatever a daemon sends,
and pushes at a quarter of adb's speed; so its transports, keys and signers are used, and the packets are ours.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from amc_mobile.errors import DeviceError
from android_bench.adb import Address, Connection, Refused, printable
from android_bench.handshake import shake_hands
from android_bench.packets import CLSE, OKAY, OPEN, WRTE, Packet, PacketLink
from android_bench.services import Services
from android_bench.streams import Deadline
from android_bench.wires import TcpWire, UsbWire, Wire

_CLOSE_S = 5.0


def connect(
    address: Address,
    *,
    notice: Callable[[str], None] | None = None,
    authorise_s: float = 60.0,
) -> Connection:
    """An open connection over USB or TCP. Raises: ConnectionLost, Refused, ProtocolError."""
    wire: Wire = UsbWire(address.serial) if address.transport == "usb" else TcpWire(address.serial)
    return Services(over(wire, str(address), notice=notice, authorise_s=authorise_s))


def over(
    wire: Wire,
    name: str,
    *,
    notice: Callable[[str], None] | None = None,
    authorise_s: float = 60.0,
) -> DirectLink:
    """A link over a wire, after the handshake. Raises: ConnectionLost, Refused, ProtocolError."""
    packets = PacketLink(wire, name)
    try:
        features = shake_hands(packets, notice=notice, authorise_s=authorise_s)
    except DeviceError:
        wire.close()
        raise
    return DirectLink(packets, features)


class DirectLink:
    """Streams over packets, one at a time. Implements streams.Opener."""

    def __init__(self, packets: PacketLink, features: frozenset[str]) -> None:
        self.packets = packets
        self.name = packets.name
        self.features = features
        self._last = 0  # the number of the newest stream; packets for older ones are late and dropped

    def open(self, service: bytes, deadline: Deadline) -> DirectStream:
        """A stream to one service. Raises: Refused, TimedOut, ConnectionLost, ProtocolError."""
        if len(service) >= self.packets.payload_bytes:
            raise Refused(f"a command of {len(service)} bytes is too long for {self.name}; make it shorter")
        self._last = self._last % 0xFFFFFFFF + 1
        stream = DirectStream(self, self._last)
        self.packets.send(OPEN, stream.local, 0, service + b"\0", deadline)
        while not stream.remote:
            self.next_packet(stream, deadline)
            if stream.closed:
                kind = printable(service.partition(b":")[0])
                raise Refused(f"{self.name} refuses the service {kind!r}; restart the phone, then try again")
        return stream

    def next_packet(self, stream: DirectStream, deadline: Deadline) -> None:
        """Take one packet; what is not for `stream` is dropped. Raises: TimedOut, ConnectionLost, ProtocolError."""
        packet = self.packets.receive(deadline)
        if packet.command in (OKAY, CLSE, WRTE) and packet.arg1 == stream.local:
            stream.take(packet)

    def close(self) -> None:
        """End all streams and the connection."""
        self.packets.close()


class DirectStream:
    """Bytes to and from one service, at most one packet ahead. Implements streams.Stream."""

    def __init__(self, link: DirectLink, local: int) -> None:
        self.local = local
        self.remote = 0
        self.closed = False  # by the phone
        self.block_bytes = link.packets.payload_bytes
        self._link = link
        self._left = False  # closed by us
        self._may_write = False  # the phone has said OKAY to the last packet
        self._pending = b""  # come, and not read: one packet, as no other is received before it is

    def read(self, deadline: Deadline) -> bytes:
        """The next bytes; none at the end."""
        while not self._pending and not self.closed:
            self._link.next_packet(self, deadline)
        data, self._pending = self._pending, b""
        if data and not self.closed:
            self._link.packets.send(OKAY, self.local, self.remote, b"", deadline)
        return data

    def write(self, data: bytes, deadline: Deadline) -> bool:
        """Send it as fast as the phone acknowledges; False if the phone spoke or hung up before all was sent.

        It returns before the last packet is acknowledged: the next is made ready meanwhile.
        """
        view = memoryview(data)
        while view:
            part = view[: self.block_bytes]
            while not self._may_write or self._link.packets.waiting():
                if self._pending or self.closed:
                    return False
                self._link.next_packet(self, deadline)
            if self._pending or self.closed:
                return False
            self._link.packets.send(WRTE, self.local, self.remote, part, deadline)
            self._may_write = False
            view = view[len(part) :]
        return True

    def close(self) -> None:
        """End the service, unless the phone has."""
        if self._left or self.closed:
            return
        self._left = True
        with suppress(DeviceError):  # gone already
            self._link.packets.send(CLSE, self.local, self.remote, b"", Deadline(_CLOSE_S))

    def answers(self) -> bool:
        """Whether the phone acknowledges that the stream was closed."""
        deadline = Deadline(_CLOSE_S)
        try:
            while not self.closed:
                self._link.next_packet(self, deadline)
        except DeviceError:
            return False
        return True

    def take(self, packet: Packet) -> None:
        """One packet for this stream. Raises: ProtocolError for one that breaks the rules."""
        if packet.command == OKAY:
            self.remote = self.remote or packet.arg0
            self._may_write = True
        elif packet.command == WRTE and self.remote:
            if not self._left:
                self._pending = packet.payload
        elif packet.command == CLSE:
            self.close_back()

    def close_back(self) -> None:
        """The phone closed the stream: so do we, as both must."""
        if not self._left and self.remote:
            self.close()
        self.closed = True

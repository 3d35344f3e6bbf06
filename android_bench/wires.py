"""The two ways to a phone's daemon, over adb-shell's transports: a TCP socket, or a USB cable. Whole bytes in time, or
one clear error.
"""

from __future__ import annotations

import select
import socket
import time
from typing import Any, Protocol

from amc_mobile.errors import DeviceError, first_line
from android_bench.adb import ConnectionLost, Refused, printable
from android_bench.streams import Deadline, TimedOut

_CONNECT_S = 10.0
_HELD_S, _HELD_PAUSE_S = 3.0, 0.2  # a phone on USB that another process or thread looks at
_SMALL_BYTES = 4096
_USB_READ_BYTES = 1 << 20


class Wire(Protocol):
    """Bytes to and from the daemon of one phone."""

    def send(self, header: bytes, payload: bytes | memoryview, deadline: Deadline) -> None:
        """Send one packet. Raises: TimedOut before it began; ConnectionLost, also if it could not be ended in time."""

    def receive(self, count: int, deadline: Deadline) -> bytes:
        """Exactly `count` bytes. Raises: ConnectionLost; TimedOut, and then what came is kept for the next call."""

    def waiting(self) -> bool:
        """Whether something can be received now, as far as that is known."""

    def close(self) -> None:
        """End it. Never raises."""


class TcpWire:
    """A TCP connection to a daemon, whose silence ends within a minute when the phone is gone."""

    def __init__(self, serial: str) -> None:
        """Raises: ConnectionLost if nothing listens there; DeviceError if `serial` is no HOST:PORT."""
        from adb_shell.transport.tcp_transport import TcpTransport

        self.name = printable(serial)
        self._transport: Any = TcpTransport(*_host_and_port(serial))
        try:
            self._transport.connect(_CONNECT_S)
        except OSError as error:
            raise ConnectionLost(
                f"nothing answers at {self.name} ({_reason(error)}); check that phone and computer share a network, "
                "and type `adb tcpip 5555` once with the cable plugged in"
            ) from error
        self._held = b""  # the beginning of what is being received
        self._socket: socket.socket = self._transport._connection
        _keep_alive(self._socket)

    def send(self, header: bytes, payload: bytes | memoryview, deadline: Deadline) -> None:
        """Send one packet: a small one in one piece, so that it costs one round trip."""
        deadline.left_s()
        parts = [header + payload] if len(payload) <= _SMALL_BYTES else [header, payload]
        try:
            for part in parts:
                view = memoryview(part)
                while view:
                    view = view[self._transport.bulk_write(view, deadline.left_s()) :]
        except Exception as error:
            raise _torn(self.name, error) from error

    def receive(self, count: int, deadline: Deadline) -> bytes:
        """Exactly `count` bytes."""
        pieces = [self._held] if self._held else []
        missing = count - len(self._held)
        self._held = b""
        try:
            while missing:
                piece = self._transport.bulk_read(missing, deadline.left_s())
                if not piece:
                    raise EOFError("closed by the phone")
                pieces.append(piece)
                missing -= len(piece)
        except Exception as error:
            self._held = b"".join(pieces)
            raise _lost(self.name, error) from error
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def waiting(self) -> bool:
        """Whether bytes have arrived."""
        return bool(select.select([self._socket], [], [], 0)[0])

    def close(self) -> None:
        """End it."""
        self._transport.close()


class UsbWire:
    """A USB cable. Header and payload are transfers of their own, and a full last packet is ended by an empty one."""

    def __init__(self, serial: str, transport: Any = None) -> None:
        """Raises: Refused with the remedy when USB cannot be used; ConnectionLost when the phone is not plugged in."""
        self.name = printable(serial)
        self._held = bytearray()  # the beginning of what is being received
        self._transport = transport or _usb_transport(serial, self.name)
        self._claim(time.monotonic() + _HELD_S)
        sizes = [endpoint.getMaxPacketSize() for endpoint in self._transport._setting.iterEndpoints()]
        self._packet_bytes = max(1, min(sizes, default=512))

    def _claim(self, end_s: float) -> None:
        """Takes the phone for us. Another look for phones holds it for a moment only, and is waited for."""
        while True:
            try:
                self._transport.connect(_CONNECT_S)
                return
            except Exception as error:
                if not _busy(error) or time.monotonic() >= end_s:
                    raise usb_refusal(self.name, error) from error
            time.sleep(_HELD_PAUSE_S)

    def send(self, header: bytes, payload: bytes | memoryview, deadline: Deadline) -> None:
        """Send one packet."""
        deadline.left_s()
        try:
            self._send(memoryview(header), deadline)
            if payload:
                self._send(memoryview(payload), deadline)
                if len(payload) % self._packet_bytes == 0:  # else the phone waits for the rest of it
                    self._transport.bulk_write(b"", deadline.left_s())
        except Exception as error:
            raise _torn(self.name, error) from error

    def _send(self, data: memoryview, deadline: Deadline) -> None:
        while data:
            data = data[self._transport.bulk_write(bytes(data), deadline.left_s()) :]

    def receive(self, count: int, deadline: Deadline) -> bytes:
        """Exactly `count` bytes."""
        try:
            while len(self._held) < count:
                missing = min(count - len(self._held), _USB_READ_BYTES)
                self._held += self._transport.bulk_read(missing, deadline.left_s())
        except Exception as error:
            raise _lost(self.name, error) from error
        data, self._held = bytes(self._held), bytearray()
        return data

    def waiting(self) -> bool:
        """Never known beforehand."""
        return False

    def close(self) -> None:
        """End it."""
        self._transport.close()


def _host_and_port(serial: str) -> tuple[str, int]:
    host, _, port = serial.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise DeviceError(f"'{printable(serial)}' is not HOST:PORT; type, for example, 192.168.0.7:5555")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _keep_alive(connection: socket.socket) -> None:
    """Small packets leave at once, and a phone that vanished is noticed though nothing is sent."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4), ("TCP_USER_TIMEOUT", 30_000)):
        if hasattr(socket, option):  # not every system has each
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def _reason(error: OSError) -> str:
    return (error.strerror or first_line(error)).lower()


def _lost(name: str, error: Exception) -> DeviceError:
    """What a broken transfer means: time is up, or the connection is gone."""
    if isinstance(error, DeviceError):
        return error
    usb_error = getattr(error, "usb_error", None)
    if type(error).__name__ == "TcpTimeoutException" or type(usb_error).__name__ == "USBErrorTimeout":
        return TimedOut("the time is up")
    reason = _reason(error) if isinstance(error, OSError) else printable(first_line(usb_error or error))
    return ConnectionLost(f"the connection to {name} was lost ({reason}); check the cable, then run the command again")


def _torn(name: str, error: Exception) -> DeviceError:
    """What a packet means that could not be sent to its end: nothing can be sent after it."""
    lost = _lost(name, error)
    if isinstance(lost, TimedOut):
        return ConnectionLost(f"{name} does not take what is sent to it; check the cable, then run the command again")
    return lost


def _usb_transport(serial: str, name: str) -> Any:
    """adb-shell's transport of the phone with this serial. Raises: Refused, ConnectionLost."""
    try:
        from adb_shell.exceptions import UsbDeviceNotFoundError
        from adb_shell.transport.usb_transport import UsbTransport
    except (ImportError, OSError) as error:
        raise Refused(usb_missing(error)) from error
    try:
        return UsbTransport.find_adb(serial)
    except UsbDeviceNotFoundError as error:
        raise ConnectionLost(
            f"no phone {name} is plugged in; plug it in, switch on USB debugging in its developer options, "
            "and type `amc devices`"
        ) from error
    except Exception as error:
        raise usb_refusal(name, error) from error


def _busy(error: Exception) -> bool:
    return type(getattr(error, "usb_error", None) or error).__name__ == "USBErrorBusy"


def usb_missing(error: Exception) -> str:
    """Why USB cannot be used on this computer, and what to type."""
    if isinstance(error, ImportError):
        return "phones on USB need a package that is missing; type `pip install 'amc-mobile[usb]'`"
    return "phones on USB need libusb, which is missing; on Debian and Ubuntu type `sudo apt-get install libusb-1.0-0`"


def usb_refusal(name: str, error: Exception) -> DeviceError:
    """Why a phone on USB cannot be opened, and what to type."""
    kind = type(getattr(error, "usb_error", None) or error).__name__
    if _busy(error):
        return Refused(
            f"{name} is held by an adb server on USB, or by another amc; type `adb kill-server`, or use it through the "
            "server"
        )
    if kind == "USBErrorAccess":
        return Refused(
            f"no permission to open {name} on USB; type `sudo apt-get install android-sdk-platform-tools-common` "
            "(udev rules), then plug it in again"
        )
    if kind in ("USBErrorNoDevice", "USBErrorIO", "USBErrorNotFound"):
        return ConnectionLost(f"{name} went away from USB; plug it in again")
    return Refused(f"{name} cannot be opened on USB ({printable(first_line(error))}); plug it in again")

"""Packets on USB as libusb carries them, and what its errors mean; there is no cable here, so adb-shell's transport is
replaced at its four methods.
"""

from __future__ import annotations

import time

import pytest

from amc_mobile.errors import DeviceError
from android_bench import direct, wires
from android_bench.adb import ConnectionLost, Refused
from android_bench.streams import Deadline, TimedOut
from android_bench.wires import TcpWire, UsbWire
from tests.android_bench.adb.rogue import CNXN, VERSION, WRTE, Rogue, Talk, packet


class USBErrorBusy(Exception):
    """As usb1 names it."""


class USBErrorAccess(USBErrorBusy):
    pass


class USBErrorNoDevice(USBErrorBusy):
    pass


class USBErrorTimeout(USBErrorBusy):
    pass


class Failed(Exception):
    """As adb-shell's UsbReadFailedError."""

    def __init__(self, usb_error: Exception) -> None:
        self.usb_error = usb_error


class Endpoint:
    def getMaxPacketSize(self) -> int:  # noqa: N802 - libusb's name
        return 64


class Setting:
    def iterEndpoints(self):  # noqa: N802 - libusb's name
        return iter([Endpoint(), Endpoint()])


class Cable:
    """adb-shell's UsbTransport, with transfers instead of a cable."""

    def __init__(self, *answers: bytes | Exception, opening: Exception | None = None) -> None:
        self.sent: list[bytes] = []
        self._answers = list(answers)
        self._opening = opening
        self._setting = Setting()
        self.closed = False

    def connect(self, transport_timeout_s: float) -> None:
        if self._opening:
            raise self._opening

    def bulk_write(self, data: bytes, transport_timeout_s: float) -> int:
        self.sent.append(data)
        return len(data)

    def bulk_read(self, numbytes: int, transport_timeout_s: float) -> bytes:
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        assert len(answer) <= numbytes  # a transfer is never asked for less than it holds
        return answer

    def close(self) -> None:
        self.closed = True


def test_header_and_payload_are_transfers_and_a_full_one_is_ended():
    cable = Cable()
    wire = UsbWire("ABC", cable)
    for size in (0, 10, 64, 100, 128):
        wire.send(b"h" * 24, b"p" * size, Deadline(5))
    sizes = [len(data) for data in cable.sent]
    assert sizes == [24, 24, 10, 24, 64, 0, 24, 100, 24, 128, 0]


def test_a_handshake_over_usb():
    hello = packet(CNXN, VERSION, 1 << 20, b"device::features=shell_v2")
    cable = Cable(hello[:24], hello[24:])
    link = direct.over(UsbWire("ABC", cable), "ABC")
    assert link.features == {"shell_v2"}
    link.close()
    assert cable.closed


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (USBErrorBusy(), Refused, "type `adb kill-server`, or use it through the server"),
        (USBErrorAccess(), Refused, "no permission .*udev"),
        (USBErrorNoDevice(), ConnectionLost, "plug it in again"),
        (ZeroDivisionError("odd\x1b"), Refused, r"cannot be opened on USB \(odd\\x1b\)"),
    ],
)
def test_a_phone_that_cannot_be_opened(error, kind, words, monkeypatch):
    monkeypatch.setattr(wires, "_HELD_S", 0.0)
    with pytest.raises(kind, match=words) as caught:
        UsbWire("ABC", Cable(opening=error))
    assert str(caught.value).isprintable()


def test_a_phone_that_somebody_looks_at_is_waited_for(monkeypatch):
    monkeypatch.setattr(wires, "_HELD_PAUSE_S", 0.0)
    cable, tries = Cable(b"x"), []

    def connect(transport_timeout_s):
        tries.append(transport_timeout_s)
        if len(tries) < 3:
            raise USBErrorBusy

    monkeypatch.setattr(cable, "connect", connect)
    assert UsbWire("ABC", cable).receive(1, Deadline(5)) == b"x"
    assert len(tries) == 3


def test_a_pulled_cable_and_a_silent_phone():
    with pytest.raises(ConnectionLost, match="check the cable"):
        UsbWire("ABC", Cable(Failed(USBErrorNoDevice("gone")))).receive(24, Deadline(5))
    with pytest.raises(TimedOut):
        UsbWire("ABC", Cable(Failed(USBErrorTimeout()))).receive(24, Deadline(5))


def test_what_came_too_late_is_not_lost():
    wire = UsbWire("ABC", Cable(b"first ", Failed(USBErrorTimeout()), b"second"))
    with pytest.raises(TimedOut):
        wire.receive(12, Deadline(5))
    assert wire.receive(12, Deadline(5)) == b"first second"


def test_a_packet_that_comes_slowly_is_read_in_several_goes():
    def slowly(talk: Talk) -> None:
        talk.welcome()
        whole = packet(WRTE, 1, 2, b"p" * 2000)
        for start in range(0, len(whole), 150):
            talk.send(whole[start : start + 150])
            time.sleep(0.02)
        talk.wait()

    with Rogue(slowly) as rogue:
        link = direct.over(TcpWire(rogue.address), "phone")
        late = 0
        while True:
            try:
                got = link.packets.receive(Deadline(0.01))
                break
            except TimedOut:
                late += 1
        assert got.payload == b"p" * 2000 and late
        link.close()


def test_a_phone_that_takes_nothing():
    with Rogue(lambda talk: time.sleep(2)) as rogue:
        wire = TcpWire(rogue.address)
        with pytest.raises(ConnectionLost, match="does not take what is sent"):
            for _ in range(100):
                wire.send(b"h" * 24, bytes(1 << 20), Deadline(0.3))
        with pytest.raises(TimedOut):
            wire.send(b"h" * 24, b"", Deadline(0))
        wire.close()


def test_what_is_missing_is_named():
    assert "pip install 'amc-mobile[usb]'" in wires.usb_missing(ImportError("usb1"))
    assert "libusb-1.0-0" in wires.usb_missing(OSError("libusb-1.0.so: cannot open"))


@pytest.mark.parametrize("serial", ["", "host", "host:", ":5555", "host:0", "host:65536", "host:port", "ho\x1bst"])
def test_addresses_that_are_none(serial):
    with pytest.raises(DeviceError, match="is not HOST:PORT") as caught:
        TcpWire(serial)
    assert str(caught.value).isprintable()

"""A malicious daemon costs bounded memory and time, says nothing to the terminal, and gives one clear line."""

from __future__ import annotations

import itertools
import struct
import time
import tracemalloc

import pytest

from amc_mobile.errors import DeviceError
from android_bench.adb import ConnectionLost, ProtocolError, Refused
from tests.android_bench.adb.rogue import AUTH, CLSE, CNXN, OKAY, VERSION, WRTE, Rogue, Talk, packet

pytestmark = pytest.mark.usefixtures("hurried")
_STLS = int.from_bytes(b"STLS", "little")
_BOUND_S = 20.0  # not how long it takes: how long a test waits before it calls the client hung
_MOST_BYTES = 64 << 20
_OLD = 0x01000000


def answered(send: bytes):
    """A daemon that answers the first packet with these bytes, and then listens."""

    def script(talk: Talk) -> None:
        talk.receive()
        talk.send(send)
        talk.wait()

    return script


def forever(send: bytes):
    """A daemon that answers with these bytes again and again."""

    def script(talk: Talk) -> None:
        talk.receive()
        talk.endlessly(send)

    return script


def dribble(talk: Talk) -> None:
    """A daemon that sends a packet a byte at a time and never ends it."""
    for byte in itertools.chain(packet(CNXN, VERSION, 1 << 20, length=1 << 20), itertools.repeat(0)):
        talk.send(bytes([byte]))
        time.sleep(0.05)


# Time is up while something is awaited, or while an acknowledgement is sent to somebody who reads nothing.
_LATE = "was not done|does not answer|does not take what is sent"
HANDSHAKES = {
    "an oversized packet": (answered(packet(CNXN, VERSION, 1 << 20, length=0xFFFFFFFF)), ProtocolError, "4294967295"),
    "a payload that never ends": (forever(packet(CNXN, length=(1 << 20) + 1)), ProtocolError, "announced"),
    "a wrong magic": (answered(packet(CNXN, VERSION, 1 << 20, magic=7)), ProtocolError, "does not speak ADB"),
    "an unknown command": (answered(packet(0x12345678)), ProtocolError, "does not speak ADB"),
    "a wrong checksum": (answered(packet(CNXN, _OLD, 1 << 20, b"device::", check=1)), ProtocolError, "checksum"),
    "a web server": (answered(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 9), ProtocolError, "HTTP/1.1"),
    "escape codes": (answered(b"\x1b[2J\x07" * 20), ProtocolError, r"\\x1b\[2J\\x07"),
    "no room at all": (answered(packet(CNXN, VERSION, 0, b"device::")), ProtocolError, "takes 0 bytes"),
    "packets of no handshake": (forever(packet(OKAY, 1, 1)), ProtocolError, "no handshake has"),
    "tokens without end": (forever(packet(AUTH, 1, 0, b"t" * 20)), Refused, "does not trust this computer"),
    "a token that is none": (answered(packet(AUTH, 1, 0, b"sign this cheque")), ProtocolError, "no token"),
    "another kind of AUTH": (answered(packet(AUTH, 9, 0, b"t" * 20)), ProtocolError, "no token"),
    "pairing": (answered(packet(_STLS, VERSION)), Refused, "adb pair"),
    "silence": (answered(b""), ConnectionLost, "does not answer"),
    "half a packet": (answered(packet(CNXN)[:10]), ConnectionLost, "does not answer"),
    "a byte at a time": (dribble, ConnectionLost, "does not answer"),
    "a hang-up": (lambda talk: None, ConnectionLost, "was lost"),
}


def cut_off(act, kind: type[DeviceError], words: str) -> None:
    """The action fails with that error, in one printable line, within bounds."""
    tracemalloc.start()
    began = time.monotonic()
    try:
        with pytest.raises(kind, match=words) as caught:
            act()
        assert time.monotonic() - began < _BOUND_S
        assert tracemalloc.get_traced_memory()[1] < _MOST_BYTES
    finally:
        tracemalloc.stop()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("case", HANDSHAKES)
def test_handshakes(phone, case):
    script, kind, words = HANDSHAKES[case]
    with Rogue(script) as rogue:
        adb = phone(rogue.address)
        cut_off(lambda: adb.shell("true", timeout_s=5), kind, words)


def in_stream(say, features: bytes = b"shell_v2"):
    """A daemon that is honest until a stream is open."""

    def script(talk: Talk) -> None:
        talk.welcome(features)
        talk.opened()
        say(talk)
        talk.wait()

    return script


def shell_packet(kind: int, data: bytes, length: int | None = None) -> bytes:
    return struct.pack("<BI", kind, len(data) if length is None else length) + data


def acknowledged_flood(data: bytes):
    """Sends the data as often as the client says OKAY, for ever."""

    def say(talk: Talk) -> None:
        while True:
            talk.say(data)
            talk.receive()

    return say


def strangers(talk: Talk) -> None:
    """Packets for streams that nobody opened."""
    talk.endlessly(packet(WRTE, n, talk.client + 1 + n, b"x" * 1000) for n in itertools.count())


FLOOD = shell_packet(1, b"x" * 60_000)
COMMANDS = {
    "a flood without leave": (lambda talk: talk.endlessly(packet(WRTE, 1, 1, FLOOD)), "said more than 1000000 bytes"),
    "a packet too long": (lambda talk: talk.send(packet(WRTE, 1, 1, length=(1 << 20) + 1)), "announced 1048577"),
    "an output too long": (lambda talk: talk.say(shell_packet(1, b"", 0xFFFFFFFF)), "what is no output"),
    "output of no kind": (lambda talk: talk.say(shell_packet(77, b"x")), "what is no output"),
    "a flood": (acknowledged_flood(FLOOD), "said more than 1000000 bytes"),
    "an exit that never comes": (acknowledged_flood(shell_packet(3, b"")), _LATE),
    "empty packets": (lambda talk: talk.endlessly(packet(WRTE, 1, 1)), _LATE),
    "packets for nobody": (strangers, _LATE),
    "silence": (lambda talk: None, "does not answer any more"),
    "a hang-up": (lambda talk: talk.send(packet(CLSE, 1, 1)), "without an exit code"),
}


@pytest.mark.parametrize("case", COMMANDS)
def test_commands(phone, case):
    say, words = COMMANDS[case]
    with Rogue(in_stream(say)) as rogue:
        adb = phone(rogue.address)
        cut_off(lambda: adb.shell("true", timeout_s=1, most_bytes=1_000_000), DeviceError, words)


def test_a_flood_from_an_old_phone(phone):
    def begin(talk: Talk) -> None:
        talk.welcome(b"")
        mark = talk.opened().partition(b"echo amc-")[2].split(b"\n")[0]
        talk.say(b"amc-" + mark + b"\r\n")
        acknowledged_flood(b"amc-amc-" * 1000)(talk)

    with Rogue(begin) as rogue:
        adb = phone(rogue.address)
        cut_off(lambda: adb.shell("true", timeout_s=5, most_bytes=1_000_000), DeviceError, "said more than")


STAT = b"STAT" + struct.pack("<III", 0o100644, 5, 0)
PULLS = {
    "a huge record": (b"DATA" + struct.pack("<I", 0xFFFFFFFF), "rules of file transfer"),
    "a record just too long": (b"DATA" + struct.pack("<I", 65_537), "rules of file transfer"),
    "empty records": (b"DATA" + bytes(4), "rules of file transfer"),
    "a huge reason": (b"FAIL" + struct.pack("<I", 0xFFFFFFFF), "rules of file transfer"),
    "no record at all": (b"\x1b[2J\x1b]0;", "rules of file transfer"),
    "an ugly reason": (b"FAIL" + struct.pack("<I", 12) + b"\x1b[31m\nrm -rf", r"\\x1b\[31m\\nrm -r"),
    "a reason that never ends": (b"FAIL" + struct.pack("<I", 9000), "does not answer any more"),
}


@pytest.mark.parametrize("case", PULLS)
def test_pulls(phone, case):
    answer, words = PULLS[case]

    def say(talk: Talk) -> None:
        talk.written()
        talk.say(STAT)
        talk.written()
        talk.say(answer)

    with Rogue(in_stream(say)) as rogue:
        adb = phone(rogue.address, wait_s=0.1)
        cut_off(lambda: adb.pull("/file", most_bytes=1000), DeviceError, words)


def test_a_file_that_never_ends(phone):
    def say(talk: Talk) -> None:
        talk.written()
        talk.say(STAT)
        talk.written()
        talk.endlessly(packet(WRTE, 1, talk.client, b"DATA" + struct.pack("<I", 1000) + bytes(1000)))

    with Rogue(in_stream(say)) as rogue:
        adb = phone(rogue.address)
        cut_off(lambda: adb.pull("/file", most_bytes=100_000), DeviceError, "longer than the 100000 bytes")


def test_a_push_that_is_never_acknowledged(phone):
    with Rogue(in_stream(Talk.written)) as rogue:
        adb = phone(rogue.address, wait_s=0.1)
        cut_off(lambda: adb.push(bytes(10_000_000), "/file"), ConnectionLost, "does not answer any more")


def test_a_push_that_is_answered_with_a_flood(phone):
    with Rogue(in_stream(lambda talk: talk.endlessly(packet(WRTE, 1, talk.client, b"DATA" * 1000)))) as rogue:
        adb = phone(rogue.address)
        cut_off(lambda: adb.push(bytes(10_000_000), "/file"), ProtocolError, "rules of file transfer")


@pytest.mark.parametrize("features", [b"", b"\xff\xfe;;=::", b"shell_v2\x1b[2J" * 1000])
def test_banners_are_only_read(phone, features):
    with Rogue(in_stream(lambda talk: talk.send(packet(CLSE, 1, 1)), features=features)) as rogue:
        adb = phone(rogue.address)
        cut_off(lambda: adb.shell("true", timeout_s=5), ConnectionLost, "without an exit code")


def test_a_name_cannot_leave_its_word():
    from android_bench.adb import quote

    for name in ("two\nlines", "nul\0", "carriage\r"):
        with pytest.raises(DeviceError, match="rename it") as caught:
            quote(name)
        assert str(caught.value).isprintable()

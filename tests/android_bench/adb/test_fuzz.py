"""Whatever a daemon sends, the client ends with an answer or with one line."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amc_mobile.errors import DeviceError
from android_bench import direct
from android_bench.adb import ConnectionLost
from android_bench.services import Services
from android_bench.streams import Deadline
from tests.android_bench.adb.rogue import AUTH, CLSE, CNXN, OKAY, VERSION, WRTE, packet


class Tape:
    """A wire on which everything the daemon will ever send is known beforehand. Implements wires.Wire."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def send(self, header: bytes, payload: bytes | memoryview, deadline: Deadline) -> None:
        pass

    def receive(self, count: int, deadline: Deadline) -> bytes:
        if len(self.data) < count:
            raise ConnectionLost("the tape is at its end; take another")
        taken, self.data = self.data[:count], self.data[count:]
        return taken

    def waiting(self) -> bool:
        return bool(self.data)

    def close(self) -> None:
        pass


HELLO = [packet(CNXN, VERSION, 1 << 20, b"device::features=" + features) for features in (b"", b"shell_v2")]
PARTS = st.sampled_from(
    [
        b"STAT" + struct.pack("<III", 0o100644, 5, 0),
        b"DATA" + struct.pack("<I", 5) + b"12345",
        b"DONE" + bytes(4),
        b"FAIL" + struct.pack("<I", 4) + b"no\x1b[",
        b"OKAY" + bytes(4),
        struct.pack("<BI", 1, 3) + b"out",
        struct.pack("<BI", 3, 1) + b"\0",
    ]
)
PAYLOADS = st.lists(PARTS | st.binary(max_size=20), max_size=4).map(b"".join)
PACKETS = st.builds(
    packet, st.sampled_from([OKAY, OKAY, WRTE, WRTE, CLSE, CNXN, AUTH]), st.integers(0, 2), st.integers(0, 2), PAYLOADS
)
ACTS = {
    "shell": lambda services: services.shell("true", timeout_s=5, most_bytes=100),
    "push": lambda services: services.push(b"12345", "/file"),
    "pull": lambda services: services.pull("/file", most_bytes=100),
}


@pytest.mark.parametrize("act", ACTS)
@settings(max_examples=300)
@given(hello=st.sampled_from(HELLO), packets=st.lists(PACKETS | st.binary(max_size=30), max_size=12))
def test_packets(act: str, hello: bytes, packets: list[bytes]):
    try:
        ACTS[act](Services(direct.over(Tape(hello + b"".join(packets)), "phone", authorise_s=0)))
    except DeviceError as error:
        assert str(error).isprintable()


@given(st.binary(max_size=200))
def test_handshakes(data: bytes):
    try:
        direct.over(Tape(data), "phone", authorise_s=0)
    except DeviceError as error:
        assert str(error).isprintable()

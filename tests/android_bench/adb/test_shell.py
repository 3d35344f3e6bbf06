"""What commands say is understood however it is cut into pieces, and never more of it is kept than allowed."""

from __future__ import annotations

import struct
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amc_mobile.errors import DeviceError
from android_bench.shell import MarkedScript, PacketScript, Said, Script

PIECES = st.lists(st.integers(1, 40), max_size=60)
OUTPUT = st.binary(max_size=300) | st.lists(st.sampled_from([b"\n", b"\r\n", b"amc-", b"a", b"\r"])).map(b"".join)


def feed(script: Script, data: bytes, sizes: list[int]) -> None:
    """The data in pieces of these sizes, the rest at once."""
    for size in sizes:
        script.feed(data[:size])
        data = data[size:]
    script.feed(data)
    script.finish()


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=100))), st.integers(0, 255), PIECES)
def test_packets(parts: list[tuple[int, bytes]], code: int, sizes: list[int]):
    said = Said("phone", 1 << 20, None)
    data = b"".join(struct.pack("<BI", kind, len(piece)) + piece for kind, piece in [*parts, (3, bytes([code]))])
    feed(PacketScript("command", said), data, sizes)
    streams = [b"".join(piece for kind, piece in parts if kind == stream) for stream in (1, 2)]
    assert (said.code, said.stdout, said.stderr) == (code, *streams)


@given(OUTPUT, OUTPUT, st.integers(0, 255), st.booleans(), PIECES)
def test_marks(stdout: bytes, stderr: bytes, code: int, terminal: bool, sizes: list[int]):
    said = Said("phone", 1 << 20, None)
    script = MarkedScript("command", said)
    mark = script.service.partition(b"\necho ")[2].split(b"\n")[0]
    data = mark + b"\n" + stdout + mark + b":%d:\n" % code + stderr
    data = b"WARNING: linker: \n" + (data.replace(b"\n", b"\r\n") if terminal else data)
    feed(script, data, sizes)
    assert (said.code, said.stdout, said.stderr) == (code, stdout, stderr)


@given(st.binary(max_size=400), PIECES, st.sampled_from([PacketScript, MarkedScript]))
def test_anything(data: bytes, sizes: list[int], kind):
    said = Said("phone", 100, None)
    try:
        feed(kind("command", said), data, sizes)
    except DeviceError as error:
        assert str(error).isprintable()
    assert len(said.stdout) <= 100 and len(said.stderr) <= 100


def test_a_line_is_handed_over_as_soon_as_it_is_whole():
    heard: list[bytes] = []
    script = MarkedScript("command", Said("phone", 100, heard.append))
    mark = script.service.partition(b"\necho ")[2].split(b"\n")[0]
    script.feed(mark + b'\n{"event": "begun"}\n')
    assert heard == [b'{"event": "begun"}\n']


@pytest.mark.parametrize("shell", ["sh", "dash", "bash", "mksh", "busybox"])
@pytest.mark.parametrize("kind", [PacketScript, MarkedScript])
def test_shells(shell, kind, tmp_path):
    """The wrapped command runs alike in the shells of Android (mksh) and of others, as far as they are here."""
    said = Said("phone", 1000, None)
    script = kind('echo out; echo err >&2; exit 3 # it\'s "quoted" $(echo no)', said)
    line = script.service.partition(b":")[2]
    command = [shell, "sh", "-c", line] if shell == "busybox" else [shell, "-c", line]
    try:
        environment = {"TMPDIR": str(tmp_path), "PATH": "/usr/bin:/bin"}
        done = subprocess.run(command, check=False, capture_output=True, env=environment)
    except FileNotFoundError:
        pytest.skip(f"there is no {shell} on this machine")
    if kind is MarkedScript:
        script.feed(done.stdout)
        script.finish()
        assert (said.code, said.stdout, said.stderr, done.stderr) == (3, b"out\n", b"err\n", b"")
    else:
        assert (done.returncode, done.stdout, done.stderr) == (3, b"out\n", b"err\n")
    assert not list(tmp_path.iterdir())

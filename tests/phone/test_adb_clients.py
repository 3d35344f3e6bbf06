"""Our fake daemon before the real adb clients, 29 and 34: what satisfies them is faithful."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time

import pytest

from tests.fakes.adbd import FakeAdbd, Faults
from tests.fakes.adbd_packets import CHECKED

pytestmark = pytest.mark.phone

DAEMONS = {
    "new": {},
    "checksums": {"version": CHECKED, "most_data": 256 * 1024},
    "first_sync": {"features": ("shell_v2", "cmd")},
}


@pytest.fixture(params=list(DAEMONS))
def daemon(request, tmp_path):
    with FakeAdbd(tmp_path / "phone", **DAEMONS[request.param]) as daemon:
        yield daemon


@pytest.fixture
def adb(any_adb, daemon):
    assert "connected to" in any_adb.connect(daemon.address)
    return any_adb


@pytest.fixture
def tree(tmp_path):
    """Folders, an empty file, a big one, odd names, an executable."""
    folder = tmp_path / "tree"
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "empty").write_bytes(b"")
    (folder / "a" / "big").write_bytes(os.urandom(5 * 2**20 + 3))
    (folder / "a" / "b" / "it's a name; touch x").write_text("odd")
    (folder / "run").write_text("#!/bin/sh\necho ran\n")
    (folder / "run").chmod(0o755)
    os.utime(folder / "empty", (1_600_000_000, 1_600_000_000))
    return folder


def digests(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_commands(adb, daemon):
    said = adb("shell", "echo out; echo err >&2; exit 7")
    assert (said.returncode, said.stdout, said.stderr) == (7, b"out\n", b"err\n")
    assert adb("shell", "kill -9 $$").returncode == 128 + 9
    assert adb("shell", "getprop ro.product.model").stdout == b"Pixel 8\n"
    assert adb("shell", "cat", stdin=b"typed\n" * 1000).stdout == b"typed\n" * 1000
    assert adb("exec-out", "printf 'a\\n\\000b'; echo err >&2").stdout == b"a\n\0berr\n"
    assert re.search(rf"{daemon.address}\s+device .*model:Pixel_8", adb("devices", "-l").stdout.decode())


def test_without_the_second_shell(any_adb, tmp_path):
    with FakeAdbd(tmp_path / "phone", features=("cmd",)) as daemon:
        any_adb.connect(daemon.address)
        said = any_adb("shell", "echo out; echo err >&2; exit 7")
        assert (said.returncode, said.stdout.replace(b"\r\n", b"\n")) == (0, b"out\nerr\n")


def test_a_tree_there_and_back(adb, daemon, tree, tmp_path):
    assert adb("push", str(tree), "/data/local/tmp/").returncode == 0
    there = daemon.sandbox.path("/data/local/tmp/tree")
    assert digests(there) == digests(tree)
    assert adb("shell", "/data/local/tmp/tree/run").stdout == b"ran\n"
    assert adb("pull", "-a", "/data/local/tmp/tree", str(tmp_path / "back")).returncode == 0
    assert digests(tmp_path / "back") == digests(tree)
    assert int((tmp_path / "back" / "empty").stat().st_mtime) == int((there / "empty").stat().st_mtime)


def test_times_and_listing(adb, tree):
    assert adb("push", "--sync", str(tree), "/sdcard/").returncode == 0
    listed = adb("ls", "/sdcard/tree").stdout.decode()
    assert {line.split()[-1] for line in listed.splitlines()} >= {"a", "empty", "run"}
    assert f"{1_600_000_000:08x}" in listed
    again = adb("push", "--sync", str(tree), "/sdcard/")
    assert b"0 files pushed" in again.stdout + again.stderr


def test_what_is_refused(adb, daemon, tree, tmp_path):
    absent = adb("pull", "/data/local/tmp/absent", str(tmp_path / "x"))
    assert absent.returncode == 1 and re.search(rb"No such file|does not exist", absent.stdout + absent.stderr)
    daemon.faults.disk_bytes = 2**20
    full = adb("push", str(tree / "a" / "big"), "/data/local/tmp/big")
    assert full.returncode == 1 and b"No space left on device" in full.stdout + full.stderr
    assert not daemon.sandbox.path("/data/local/tmp/big").exists()
    assert adb("shell", "echo on").stdout == b"on\n"
    assert adb("forward", "tcp:0", "tcp:9").returncode == 0  # the server's own; the daemon refuses the stream


def test_many_streams_at_once(adb, daemon, tree, tmp_path):
    big = tree / "a" / "big"
    results: dict[int, bytes] = {}

    def work(number: int) -> None:
        if number % 2:
            adb("push", str(big), f"/data/local/tmp/{number}")
            adb("pull", f"/data/local/tmp/{number}", str(tmp_path / f"back{number}"))
            results[number] = (tmp_path / f"back{number}").read_bytes()
        else:
            results[number] = adb("exec-out", f"yes {number} | head -c 1000000").stdout

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, data in results.items():
        assert data == (big.read_bytes() if number % 2 else (f"{number}\n".encode() * 1_000_000)[:1_000_000])
    assert daemon.connections == 1


def test_the_command_dies_with_the_connection(adb, daemon):
    thread = threading.Thread(target=adb, args=("shell", "(sleep 1; touch /data/local/tmp/survived) & wait"))
    thread.start()
    while not daemon.commands:
        time.sleep(0.02)
    adb("disconnect", daemon.address)
    thread.join()
    time.sleep(1.5)
    assert not daemon.sandbox.path("/data/local/tmp/survived").exists()


def test_the_connection_drops_and_comes_back(adb, daemon, tree):
    daemon.faults.drop_push_after_bytes = 2**20
    assert adb("push", str(tree / "a" / "big"), "/data/local/tmp/big").returncode != 0
    adb("disconnect", daemon.address)
    adb.connect(daemon.address)
    assert adb("push", str(tree / "a" / "big"), "/data/local/tmp/big").returncode == 0


def test_keys(any_adb, tmp_path):
    with FakeAdbd(tmp_path / "phone", auth="refuse") as daemon:
        any_adb("connect", daemon.address)
        time.sleep(1.0)
        assert f"{daemon.address}\tunauthorized" in any_adb.devices()
        assert daemon.owner.asked and daemon.owner.signatures
    with FakeAdbd(tmp_path / "phone2", auth="allow", tap_s=0.5) as daemon:
        any_adb.connect(daemon.address)
        assert any_adb("-s", daemon.address, "shell", "echo in").stdout == b"in\n"
        tried = len(daemon.owner.asked)
        daemon.disconnect()
        any_adb("disconnect", daemon.address)
        any_adb.connect(daemon.address)
        assert any_adb("-s", daemon.address, "shell", "echo in").stdout == b"in\n"
        assert len(daemon.owner.asked) == tried  # the key was kept
    with FakeAdbd(tmp_path / "phone3", auth=[any_adb.public_key]) as daemon:
        any_adb.connect(daemon.address)
        assert any_adb("-s", daemon.address, "shell", "echo in").stdout == b"in\n"
        assert not daemon.owner.asked


def test_reboot(adb, daemon):
    daemon.faults.reboot_s = 0.2
    adb("reboot")
    while not daemon.reboots:
        time.sleep(0.02)
    time.sleep(0.5)
    adb.connect(daemon.address)
    assert adb("shell", "echo back").stdout == b"back\n"


def test_garbage_is_no_device(new_adb, tmp_path):
    with FakeAdbd(tmp_path / "phone", faults=Faults(garbage=True)) as daemon:
        new_adb("connect", daemon.address, limit_s=30)
        assert f"{daemon.address}\tdevice" not in new_adb.devices()

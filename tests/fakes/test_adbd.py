"""The fake phone: faithful to adb-shell as it comes (other clients: tests/phone), and true to its docstrings."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest
from adb_shell.adb_device import AdbDeviceTcp
from adb_shell.auth.keygen import keygen
from adb_shell.auth.sign_cryptography import CryptographySigner
from adb_shell.exceptions import AdbTimeoutError, PushFailedError, TcpTimeoutException
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.adbd import FakeAdbd, Faults, bare, linux, pixel
from tests.fakes.adbd_auth import PublicKey
from tests.fakes.adbd_packets import CHECKED
from tests.fakes.adbd_sandbox import Backwards, Sandbox

TMP = "/data/local/tmp"
SILENCE = (AdbTimeoutError, TcpTimeoutException)
BIG_CORE = "/sys/devices/system/cpu/cpu8"


@pytest.fixture
def daemon(tmp_path):
    with FakeAdbd(tmp_path / "phone") as daemon:
        yield daemon


def connected(daemon, **options):
    device = AdbDeviceTcp("127.0.0.1", daemon.port, default_transport_timeout_s=10.0)
    assert device.connect(**options)
    return device


@pytest.fixture(scope="module")
def signer(tmp_path_factory):
    path = tmp_path_factory.mktemp("key") / "adbkey"
    keygen(str(path))
    return CryptographySigner(str(path))


# ------------------------------------------------------------------------------------------------ stock adb-shell


@pytest.mark.parametrize("options", [{}, {"version": CHECKED, "most_data": 4096}], ids=["new", "old"])
def test_files_there_and_back(tmp_path, options):
    with FakeAdbd(tmp_path / "phone", **options) as daemon:
        device = connected(daemon)
        data, back = bytes(range(256)) * 300, io.BytesIO()
        device.push(io.BytesIO(data), f"{TMP}/folder/file", st_mode=0o100755, mtime=1_600_000_000)
        device.pull(f"{TMP}/folder/file", back)
        assert back.getvalue() == data
        mode, size, modified_s = device.stat(f"{TMP}/folder/file")
        assert (oct(mode), size, modified_s) == (
            "0o100777",
            len(data),
            1_600_000_000,
        )  # as adbd: the owner's rights for all
        assert [entry.filename for entry in device.list(f"{TMP}/folder")] == [b"file"]
        assert device.stat(f"{TMP}/absent") == (0, 0, 0)
        device.close()


def test_commands_of_both_protocols(daemon):
    device = connected(daemon)
    assert device.shell("echo out; echo err >&2; exit 3") == "out\nerr\n"
    assert device.exec_out("printf 'a\\000b'", decode=False) == b"a\0b"
    packets = b"".join(device._streaming_service(b"shell,v2,raw", b"echo out; echo err >&2; exit 3", decode=False))
    streams, code = packets[:-6], packets[-6:]
    assert code == b"\x03\x01\0\0\0\x03"
    assert sorted([streams[:9], streams[9:]]) == [b"\x01\x04\0\0\0out\n", b"\x02\x04\0\0\0err\n"]
    device.close()


def test_an_old_shell_has_a_terminal(tmp_path):
    with FakeAdbd(tmp_path / "phone", features=(), crlf=True) as daemon:
        device = connected(daemon)
        assert device.shell("echo a; echo b", decode=False) == b"a\r\nb\r\n"
        device.close()


def test_owner_says_yes_no_or_knows_the_key(tmp_path, signer):
    with FakeAdbd(tmp_path / "a", auth="allow", tap_s=0.1) as daemon:
        connected(daemon, rsa_keys=[signer], auth_timeout_s=10.0).close()
        assert len(daemon.owner.asked) == 1
        connected(daemon, rsa_keys=[signer], auth_timeout_s=10.0).close()
        assert len(daemon.owner.asked) == 1  # the key was kept
    with FakeAdbd(tmp_path / "b", auth="refuse") as daemon, pytest.raises(SILENCE):
        AdbDeviceTcp("127.0.0.1", daemon.port).connect(rsa_keys=[signer], auth_timeout_s=0.3, read_timeout_s=0.3)
    key = signer.GetPublicKey()
    with FakeAdbd(tmp_path / "c", auth=[key]) as daemon:
        connected(daemon, rsa_keys=[signer]).close()
        assert not daemon.owner.asked


def test_signatures_are_really_checked(signer):
    key = PublicKey.parse(signer.GetPublicKey())
    token = bytes(range(20))
    signature = signer.Sign(token)
    assert key.signed(token, signature)
    assert not key.signed(bytes(20), signature)
    assert not key.signed(token, bytes([signature[0] ^ 1]) + signature[1:])
    assert not key.signed(token, b"")
    with pytest.raises(ValueError, match="no public key"):
        PublicKey.parse("AAAA me@here")


# ------------------------------------------------------------------------------------------------ a phone


def test_a_pixel_tells_everything_and_changes(daemon):
    device = connected(daemon)
    assert device.shell("getprop ro.product.model; getprop no.such; uname -m; uname -sr").split("\n") == [
        "Pixel 8",
        "",
        "aarch64",
        "Linux 5.15.110-android14-11",
        "",
    ]
    assert device.shell(f"cat {BIG_CORE}/cpu_capacity {BIG_CORE}/cpufreq/scaling_cur_freq") == "1024\n2914000\n"
    daemon.phone.clock(8, 600_000)
    daemon.phone.battery(percent=12)
    daemon.phone.thermal(3, 88.5)
    daemon.phone.saver(True)
    daemon.phone.property("ro.product.model", "Pixel 9")
    said = device.shell(
        f"cat {BIG_CORE}/cpufreq/scaling_cur_freq; dumpsys battery; dumpsys thermalservice; "
        "settings get global low_power; settings get global no_such; getprop ro.product.model; dumpsys no_such"
    )
    for part in ("600000\n", "level: 12\n", "Thermal Status: 3\n", "mValue=88.5, mType=0", "\n1\nnull\nPixel 9\n"):
        assert part in said
    assert said.endswith("Can't find service: no_such\n")
    device.close()


@pytest.mark.parametrize("phone", [bare(), linux()], ids=["bare", "linux"])
def test_phones_that_tell_little(tmp_path, phone):
    with FakeAdbd(tmp_path / "phone", phone=phone) as daemon:
        device = connected(daemon)
        assert device.shell("cat /proc/cpuinfo 2>/dev/null; dumpsys battery 2>/dev/null; echo $?") == "127\n"
        assert device.shell("python3 -c pass 2>/dev/null; echo $?") == "127\n"  # no phone has it
        device.close()


def test_files_that_are_missing_or_closed(tmp_path):
    zone = "/sys/class/thermal/thermal_zone0/temp"
    phone = pixel(missing=(f"{BIG_CORE}/cpu_capacity",), unreadable=(zone,), without=("sha256sum",))
    with FakeAdbd(tmp_path / "phone", phone=phone) as daemon:
        device = connected(daemon)
        assert device.shell(f"cat {zone} 2>/dev/null || echo closed; [ -e {zone} ] && echo there") == "closed\nthere\n"
        assert device.shell(f"[ -e {BIG_CORE}/cpu_capacity ] || echo missing") == "missing\n"
        assert device.shell("command -v sha256sum; echo $?") == "127\n"
        device.close()


def test_paths_stay_in_the_sandbox(daemon):
    device = connected(daemon)
    device.push(io.BytesIO(b"x"), "/../../data/local/tmp/../tmp/x")
    assert daemon.sandbox.path(f"{TMP}/x").read_bytes() == b"x"
    assert device.shell(f"cd {TMP} && pwd && ls -d {TMP}/x '/data/local/tmp'/* && echo a/data b=/sys/x") == (
        f"{TMP}\n{TMP}/x\n{TMP}/x\na/data b=/sys/x\n"
    )
    device.close()


@given(st.data())
def test_paths_are_turned_back_however_output_is_cut(data):
    root = Path("/box/phone")
    pieces = st.lists(st.sampled_from(["/box/phone", "/box/ph", "/data", "x", "\n", "/", "/box"]), max_size=8)
    text = "".join(data.draw(pieces)).encode()
    whole = Backwards(root)
    expected = whole.turn(text) + whole.end()
    cut, said = Backwards(root), b""
    while text:
        size = data.draw(st.integers(1, len(text)))
        said += cut.turn(text[:size])
        text = text[size:]
    assert said + cut.end() == expected


def test_commands_are_translated_at_the_start_of_words_only():
    sandbox = Sandbox(Path("/root/box"))
    for given_text, expected in {
        "cat /sys/x": "cat /root/box/sys/x",
        "x='/data'": "x='/root/box/data'",
        "cat </proc/cpuinfo": "cat </root/box/proc/cpuinfo",
        "cat /proc/self/stat": "cat /proc/self/stat",
        "ls a/data /database ./sys $x/sys": "ls a/data /database ./sys $x/sys",
        "/root/box/data/x": "/root/box/data/x",
    }.items():
        assert sandbox.command(given_text.encode()).decode() == expected


# ------------------------------------------------------------------------------------------------ what goes wrong


def test_whatever_a_command_started_dies_with_its_connection(daemon):
    device = connected(daemon)
    stream = device.streaming_shell(f"echo begun; (sleep 1; touch {TMP}/survived) & sleep 5")
    assert next(stream) == "begun\n"
    device.close()
    time.sleep(1.5)
    assert not daemon.sandbox.path(f"{TMP}/survived").exists()
    assert daemon.connected == 0


def test_files_and_address_outlive_a_reboot(daemon):
    device, address = connected(daemon), daemon.address
    device.push(io.BytesIO(b"kept"), f"{TMP}/kept")
    daemon.faults.reboot_after_commands, daemon.faults.reboot_s = 1, 0.2
    device.shell("true")
    while not daemon.reboots:
        time.sleep(0.01)
    time.sleep(0.5)
    device = connected(daemon)
    assert device.shell(f"cat {TMP}/kept") == "kept" and daemon.address == address
    device.close()


def test_full_disk(daemon):
    daemon.faults.disk_bytes = 100_000
    device = connected(daemon)
    with pytest.raises(PushFailedError, match="No space left on device"):
        device.push(io.BytesIO(bytes(200_000)), f"{TMP}/big")
    assert not daemon.sandbox.path(f"{TMP}/big").exists()
    device.push(io.BytesIO(bytes(90_000)), f"{TMP}/small")  # the room of the cut file was given back
    device.close()


def test_a_push_is_dropped_once(tmp_path):
    with FakeAdbd(tmp_path / "phone", faults=Faults(drop_push_after_bytes=100_000)) as daemon:
        device = connected(daemon)
        with pytest.raises((OSError, *SILENCE)):
            device.push(io.BytesIO(bytes(500_000)), f"{TMP}/file", read_timeout_s=2.0)
        assert 100_000 <= daemon.sandbox.path(f"{TMP}/file").stat().st_size < 500_000  # what had come lies there
        device = connected(daemon)
        device.push(io.BytesIO(bytes(500_000)), f"{TMP}/file")
        device.close()
        assert daemon.connections == 2


def test_offline_and_back(daemon):
    daemon.go_offline()
    with pytest.raises(SILENCE):
        AdbDeviceTcp("127.0.0.1", daemon.port, default_transport_timeout_s=0.3).connect(read_timeout_s=0.3)
    daemon.go_online()
    connected(daemon).close()
    daemon.kill()
    with pytest.raises(OSError):
        AdbDeviceTcp("127.0.0.1", daemon.port).connect()
    daemon.start()
    connected(daemon).close()

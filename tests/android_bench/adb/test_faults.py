"""What breaks on the way: nothing is lost, and the owner of the phone reads one line that says what to do."""

from __future__ import annotations

import hashlib
import threading

import pytest

from amc_mobile.errors import DeviceError
from android_bench.adb import Adb, Address, ConnectionLost, DiskFull, ProtocolError, Refused, connect
from android_bench.store import Store
from tests.fakes.adbd import FakeAdbd, Faults
from tests.fakes.adbd_packets import CHECKED
from tests.fakes.listening import Port

pytestmark = pytest.mark.usefixtures("hurried")
DATA = bytes(range(256)) * 4096 * 2  # 2 MiB
FOLDER = "/data/local/tmp/ours"


@pytest.fixture
def faults():
    return Faults()


@pytest.fixture
def daemon(tmp_path, faults):
    with FakeAdbd(tmp_path / "phone", faults=faults) as daemon:
        yield daemon


@pytest.fixture
def adb(daemon, phone):
    return phone(daemon.address, wait_s=10.0)


def file_on(daemon: FakeAdbd, path: str) -> bytes:
    return (daemon.root / path.removeprefix("/")).read_bytes()


def told(kind: type[DeviceError], words: str, act) -> str:
    """The one line of the error that the action raises."""
    with pytest.raises(kind, match=words) as caught:
        act()
    line = str(caught.value)
    assert line.isprintable()
    assert ";" in line  # what happened; what to do
    return line


class TestCable:
    def test_pulled_in_the_middle_of_a_push(self, adb, daemon, faults):
        faults.drop_push_after_bytes = 500_000
        adb.push(DATA, f"{FOLDER}/file")
        assert file_on(daemon, f"{FOLDER}/file") == DATA
        assert daemon.connections == 2

    def test_pulled_in_every_push(self, adb, faults):
        faults.drop_push_after_bytes, faults.drop_push_times = 500_000, 99
        told(ConnectionLost, "check the cable", lambda: adb.push(DATA, f"{FOLDER}/file"))

    def test_pulled_while_the_store_is_filled(self, adb, daemon, faults):
        store = Store(adb, FOLDER)
        store.ensure({"first": b"first"})
        faults.drop_push_after_bytes = 500_000
        sent: list[int] = []
        places = store.ensure({"first": b"first", "second": DATA}, lambda done, total: sent.append(total))
        assert {file_on(daemon, place) for place in places.values()} == {b"first", DATA}
        assert set(sent) == {len(DATA)}  # the first was not sent again
        assert len(list((daemon.root / FOLDER[1:]).iterdir())) == 2  # no rest lies around

    def test_pulled_in_the_middle_of_a_command(self, adb, daemon, faults):
        faults.drop_shell_after_s = 0.2
        told(ConnectionLost, "run the command again", lambda: adb.shell("sleep 5", timeout_s=20))
        assert adb.shell("echo back", timeout_s=20).stdout == b"back\n"

    def test_a_command_that_may_be_run_again_is(self, adb, daemon, faults):
        faults.drop_shell_after_s = 0.2
        assert adb.shell("sleep 0.5; echo done", timeout_s=20, again=True).stdout == b"done\n"
        assert len(daemon.commands) == 2

    def test_what_was_heard_before_is_kept(self, adb, faults):
        faults.drop_shell_after_bytes = 7
        heard: list[bytes] = []
        with pytest.raises(ConnectionLost):
            adb.shell("echo first; sleep 0.5; echo second; sleep 5", timeout_s=20, on_stdout=heard.append)
        assert b"".join(heard).startswith(b"first")

    def test_silent_from_one_moment_to_the_next(self, adb, daemon):
        adb.shell("true", timeout_s=20)
        daemon.go_offline()
        told(ConnectionLost, "does not answer any more", lambda: adb.shell("true", timeout_s=1))
        told(ConnectionLost, r"does not answer .*; it was waited for 1 s", lambda: adb.reconnect(1.0))
        daemon.go_online()
        adb.reconnect()
        assert adb.shell("echo on", timeout_s=20).stdout == b"on\n"


class TestDaemon:
    def test_killed_while_a_command_runs(self, adb, daemon):
        timer = threading.Timer(0.3, daemon.kill)
        timer.start()
        told(ConnectionLost, "was lost", lambda: adb.shell("sleep 9", timeout_s=20))
        told(ConnectionLost, r"nothing answers at .*; it was waited for 1 s", lambda: adb.reconnect(1.0))

    def test_never_there(self, phone):
        nobody = Port.unused()
        told(ConnectionLost, r"nothing answers at .*adb tcpip", lambda: phone(nobody.address).push(b"", "/x"))

    def test_reboots_between_two_commands(self, adb, daemon):
        adb.push(b"kept", f"{FOLDER}/file")
        daemon.reboot(away_s=0.5)
        assert adb.pull(f"{FOLDER}/file", most_bytes=10) == b"kept"
        daemon.reboot(away_s=0.5)
        assert adb.shell("echo back", timeout_s=20, again=True).stdout == b"back\n"

    def test_reconnect_waits_for_a_reboot(self, adb, daemon):
        adb.shell("true", timeout_s=20)
        daemon.reboot(away_s=0.7)
        adb.reconnect()
        assert adb.shell("echo back", timeout_s=20).stdout == b"back\n"

    @pytest.mark.parametrize("service", ["shell", "sync:"])
    def test_refuses_a_service(self, adb, faults, service):
        faults.refused = (service,)
        act = {"shell": lambda: adb.shell("true", timeout_s=20), "sync:": lambda: adb.push(b"", "/x")}[service]
        told(Refused, "refuses the service", act)

    def test_does_not_answer_a_service(self, adb, faults):
        faults.mute = ("shell",)
        told(ConnectionLost, "does not answer any more", lambda: adb.shell("true", timeout_s=20))

    def test_speaks_something_else(self, adb, faults):
        faults.garbage = True
        told(ProtocolError, "does not speak ADB", lambda: adb.shell("true", timeout_s=20))

    def test_sends_more_than_agreed(self, adb, faults):
        faults.oversized = True
        told(ProtocolError, "announced", lambda: adb.shell("true", timeout_s=20))

    def test_counts_wrong(self, tmp_path, phone):
        with FakeAdbd(tmp_path / "old", version=CHECKED, faults=Faults(wrong_checksums=True)) as daemon:
            adb = phone(daemon.address)
            told(ProtocolError, "checksum", lambda: adb.shell("true", timeout_s=20))

    def test_drips(self, adb, faults):
        faults.drip_s = 0.05
        told(DeviceError, "was not done after 1 s", lambda: adb.shell("true", timeout_s=1))

    def test_floods(self, adb, faults):
        faults.flood = True
        told(DeviceError, "said more than", lambda: adb.shell("true", timeout_s=20))

    def test_serves_a_file_that_never_ends(self, adb, faults):
        adb.push(b"x", f"{FOLDER}/file")
        faults.endless_pull = True
        told(DeviceError, "longer than", lambda: adb.pull(f"{FOLDER}/file", most_bytes=1_000_000))


class TestDisk:
    def test_full_in_the_middle_of_a_file(self, adb, faults):
        faults.disk_bytes = 300_000
        line = told(DiskFull, "is full", lambda: adb.push(DATA, f"{FOLDER}/file"))
        assert str(len(DATA)) in line

    def test_the_store_says_what_it_needed_and_leaves_nothing(self, adb, daemon, faults):
        store = Store(adb, FOLDER)
        faults.disk_bytes = 300_000
        told(DiskFull, r"2\.1 MB were needed .* are free", lambda: store.ensure({"file": DATA}))
        assert not list((daemon.root / FOLDER[1:]).iterdir())
        faults.disk_bytes = None
        assert file_on(daemon, store.ensure({"file": DATA})["file"]) == DATA

    def test_the_phones_reason_is_passed_on(self, adb, faults):
        faults.fail_push = "read-only file system\x1b[31m"
        told(Refused, r"read-only file system\\x1b\[31m", lambda: adb.push(b"x", f"{FOLDER}/file"))

    def test_a_file_that_arrived_damaged_is_sent_again(self, adb, daemon, faults):
        faults.corrupt_push = 1
        place = Store(adb, FOLDER).ensure({"file": DATA})["file"]
        assert file_on(daemon, place) == DATA
        assert hashlib.sha256(DATA).hexdigest() in place

    def test_files_that_always_arrive_damaged(self, adb, daemon, faults):
        faults.corrupt_push = 99
        told(DeviceError, "arrived damaged 3 times", lambda: Store(adb, FOLDER).ensure({"file": DATA}))
        assert not list((daemon.root / FOLDER[1:]).iterdir())


class TestKey:
    def test_allowed_by_a_tap(self, tmp_path):
        notes: list[str] = []
        with FakeAdbd(tmp_path / "phone", auth="allow", tap_s=0.3) as daemon:
            address = Address("tcp", daemon.address)
            connect(address, notice=notes.append).close()
            assert len(notes) == 1 and "tap 'Allow'" in notes[0]
            connect(address, notice=notes.append).close()  # now it knows us
            assert len(notes) == 1

    def test_refused(self, tmp_path):
        with FakeAdbd(tmp_path / "phone", auth="refuse") as daemon:
            address = Address("tcp", daemon.address)
            told(Refused, "does not trust this computer", lambda: connect(address, authorise_s=0.5))

    def test_not_even_asked(self, tmp_path):
        with FakeAdbd(tmp_path / "phone", auth="allow") as daemon:
            address = Address("tcp", daemon.address)
            told(Refused, "does not trust this computer", lambda: connect(address, authorise_s=0))


def test_one_adb_follows_the_address_it_was_given():
    asked: list[Address] = []

    def refuse(address: Address):
        asked.append(address)
        raise ConnectionLost("away; plug it in")

    adb = Adb(Address("usb", "ABC"), refuse, sleep=lambda seconds: None)
    with pytest.raises(ConnectionLost):
        adb.push(b"", "/x")
    assert asked == [Address("usb", "ABC")]  # a phone that was never there is not waited for

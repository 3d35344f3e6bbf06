"""The client suite against the fake daemon, as phones of several ages are."""

from __future__ import annotations

import pytest

from android_bench.adb import Adb, Address
from tests.android_bench.adb.client_suite import ClientSuite
from tests.fakes.adbd import FakeAdbd, Faults
from tests.fakes.adbd_packets import CHECKED

PHONES = {
    "new": {},
    "old": {"version": CHECKED, "most_data": 4096},  # Android 7: checksums, small packets
    "older": {"version": CHECKED, "most_data": 256 * 1024, "features": (), "crlf": True},  # Android 6: shell v1
}


class TestClient(ClientSuite):
    @pytest.fixture(params=list(PHONES))
    def daemon(self, request, tmp_path):
        with FakeAdbd(tmp_path / "phone", **PHONES[request.param]) as daemon:
            yield daemon

    @pytest.fixture
    def adb(self, daemon):
        adb = Adb(Address("tcp", daemon.address))
        yield adb
        adb.close()

    @pytest.fixture
    def folder(self, adb):
        adb.shell("mkdir -p /data/local/tmp/suite", timeout_s=20)
        return "/data/local/tmp/suite"


def test_a_slow_link_is_no_lost_one(tmp_path):
    data = bytes(1_500_000)
    with FakeAdbd(tmp_path / "phone", faults=Faults(bytes_per_s=1_000_000)) as daemon:
        adb = Adb(Address("tcp", daemon.address))
        adb.push(data, "/data/local/tmp/file")
        assert adb.pull("/data/local/tmp/file", most_bytes=len(data)) == data
        adb.close()
        assert daemon.connections == 1

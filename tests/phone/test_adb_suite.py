"""Our ADB client's whole suite before the real adbd, and through the real adb server to it and to the fake one."""

from __future__ import annotations

import pytest

from android_bench.adb import Adb, Address
from tests.android_bench.adb.client_suite import ClientSuite
from tests.fakes.adbd import FakeAdbd

pytestmark = pytest.mark.phone


@pytest.fixture
def folder(clean_tmp):
    return clean_tmp


def opened(address):
    adb = Adb(address)
    yield adb
    adb.close()


class TestRealDaemon(ClientSuite):
    @pytest.fixture
    def adb(self, real_adbd):
        yield from opened(Address("tcp", real_adbd))


class TestRealDaemonThroughRealServer(ClientSuite):
    @pytest.fixture
    def adb(self, real_adbd, new_adb, monkeypatch):
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(new_adb.port))
        new_adb.connect(real_adbd)
        yield from opened(Address("server", real_adbd))


class TestFakeDaemonThroughRealServer(ClientSuite):
    @pytest.fixture
    def daemon(self, tmp_path):
        with FakeAdbd(tmp_path / "phone", real=("/tmp",)) as daemon:  # noqa: S108 - as the real one
            yield daemon

    @pytest.fixture
    def adb(self, daemon, any_adb, monkeypatch):
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(any_adb.port))
        any_adb.connect(daemon.address)
        yield from opened(Address("server", daemon.address))

"""Phones and patience for the tests of the ADB client."""

from __future__ import annotations

import pytest

from android_bench import direct, handshake, services, sync
from android_bench.adb import Adb, Address


@pytest.fixture
def hurried(monkeypatch):
    """Waits half a second where a real phone is given ten or thirty."""
    monkeypatch.setattr(handshake, "_ANSWER_S", 0.5)
    monkeypatch.setattr(services, "_OPEN_S", 0.5)
    monkeypatch.setattr(sync, "_SILENCE_S", 0.5)
    monkeypatch.setattr(direct, "_CLOSE_S", 0.5)


@pytest.fixture
def phone():
    """Makes an Adb for an address, closed at the end, which waits for lost phones for a second only."""
    made: list[Adb] = []

    def make(address: str, **options) -> Adb:
        made.append(Adb(Address("tcp", address), **{"wait_s": 1.0, **options}))
        return made[-1]

    yield make
    for adb in made:
        adb.close()


@pytest.fixture(autouse=True)
def own_home(monkeypatch, tmp_path):
    """No test sees or makes a key of the user's."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)

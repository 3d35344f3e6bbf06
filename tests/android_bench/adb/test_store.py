"""The store on phones that lack things, and among files that are not ours. The rest of it is in client_suite.py."""

from __future__ import annotations

import os

import pytest

from amc_mobile.errors import DeviceError
from android_bench.adb import Refused
from android_bench.store import Store
from tests.fakes.adbd import FakeAdbd, Faults

FOLDER = "/data/local/tmp/ours"


@pytest.fixture
def faults():
    return Faults()


@pytest.fixture
def daemon(tmp_path, faults):
    with FakeAdbd(tmp_path / "phone", faults=faults) as daemon:
        yield daemon


@pytest.fixture
def store(daemon, phone):
    return Store(phone(daemon.address), FOLDER)


@pytest.mark.parametrize("folder", ["", "relative/one", "/", "/data", "/data/..", "//", "//data/", "/data/local/../.."])
def test_folders_that_are_not_ours_to_clean(store, folder):
    with pytest.raises(DeviceError, match="is no folder for our files"):
        Store(store._adb, folder)


def test_a_phone_without_sha256sum_is_read_back(daemon, store, faults):
    (daemon.root / "system/bin/sha256sum").unlink()
    faults.corrupt_push = 1
    place = store.ensure({"file.bin": b"content"})["file.bin"]
    assert (daemon.root / place[1:]).read_bytes() == b"content"


def test_foreign_files_are_left_alone(daemon, store):
    store.ensure({"file": b"content"})
    folder = daemon.root / FOLDER[1:]
    digest = "0" * 64
    for name in ("notes", f"0 9 {digest}", f"x\n1 1 {digest}\n", "$(touch injected)", f"{digest}; touch injected"):
        (folder / name).write_bytes(b"keep")
    before = set(folder.iterdir())
    store.trim(0)
    left = set(folder.iterdir())
    assert len(before - left) == 1 and not left - before


def test_what_a_broken_run_left_behind_goes_with_the_rest(daemon, store):
    place = store.ensure({"file": b"content"})["file"]
    rest = daemon.root / f"{place[1:]}.0123abcd.part"
    rest.write_bytes(b"half")
    os.utime(rest, (0, 0))
    assert store.trim(7) == 4
    assert not rest.exists() and (daemon.root / place[1:]).exists()


def test_a_folder_that_cannot_be_made(daemon, store):
    (daemon.root / FOLDER[1:]).parent.mkdir(parents=True, exist_ok=True)
    (daemon.root / FOLDER[1:]).write_bytes(b"a file")
    with pytest.raises(Refused, match="cannot be made") as caught:
        store.ensure({"file": b"content"})
    assert str(caught.value).isprintable()


def test_two_computers_may_send_the_same_file(daemon, store, phone):
    other = Store(phone(daemon.address), FOLDER)
    assert store._part != other._part  # neither writes into the other's draft
    assert store.ensure({"file": b"content"}) == other.ensure({"file": b"content"})


def test_many_files(daemon, store):
    files = {f"{n}.bin": str(n).encode() for n in range(401)}  # more than one command names
    places = store.ensure(files)
    assert {name: (daemon.root / place[1:]).read_bytes() for name, place in places.items()} == files
    assert store.trim(0) == sum(map(len, files.values()))
    assert not list((daemon.root / FOLDER[1:]).iterdir())

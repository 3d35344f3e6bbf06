"""Kept folders: made once, whole or not there, also when several processes make one at the same time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from amc_mobile.errors import DeviceError
from android_bench.runner.cache import default_cache, digest, intact, kept, sums


def made_by(text: str, calls: list[str]):
    def make(folder: Path) -> None:
        calls.append(text)
        (folder / "file").write_text(text, encoding="utf-8")

    return make


def test_made_once_and_found_again(tmp_path: Path):
    calls: list[str] = []
    first = kept(tmp_path / "cache", "name", made_by("a", calls))
    again = kept(tmp_path / "cache", "name", made_by("b", calls))
    assert first == again
    assert calls == ["a"]
    assert (first / "file").read_text(encoding="utf-8") == "a"
    assert sums(first).keys() == {"file"}


def test_what_is_damaged_is_made_again(tmp_path: Path):
    calls: list[str] = []
    place = kept(tmp_path, "name", made_by("a", calls))
    for damage in (
        lambda: (place / "file").write_text("b", encoding="utf-8"),
        (place / "more").touch,
        (place / "file").unlink,
        (place / "SHA256SUMS").unlink,
        lambda: (place / "SHA256SUMS").write_text("no sums", encoding="utf-8"),
    ):
        damage()
        assert not intact(place)
        kept(tmp_path, "name", made_by("a", calls))
        assert intact(place)
    assert len(calls) == 6
    assert [path.name for path in tmp_path.iterdir()] == ["name"]


def test_a_failure_leaves_nothing_behind(tmp_path: Path):
    def fails(folder: Path) -> None:
        (folder / "half").touch()
        raise DeviceError("no network")

    with pytest.raises(DeviceError, match="no network"):
        kept(tmp_path, "name", fails)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(DeviceError, match=r"cannot write .*XDG_CACHE_HOME"):
        kept(tmp_path / "file" / "cache", "name", made_by("a", []))


MANY = """
import sys, time
from pathlib import Path
from android_bench.runner.cache import intact, kept
def make(folder):
    for number in range(40):
        (folder / str(number)).write_text("x" * 10000)
        time.sleep(0.001)
for number in range(5):
    place = kept(Path(sys.argv[1]), f"name {number}", make)
    assert intact(place)
"""


def test_several_processes_do_not_break_each_other(tmp_path: Path):
    processes = [subprocess.Popen([sys.executable, "-c", MANY, str(tmp_path)]) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"name {number}" for number in range(5)]


def test_the_cache_is_where_the_user_keeps_such_things(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "amc-mobile"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/ones/do/not/count")
    assert default_cache() == Path.home() / ".cache" / "amc-mobile"


def test_a_digest_depends_on_names_and_contents():
    assert digest({"a": "1", "b": "2"}) == digest({"b": "2", "a": "1"})
    assert digest({"a": "1"}) != digest({"b": "1"})
    assert digest({"a": "1"}) != digest({"a": "2"})

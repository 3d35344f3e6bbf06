"""Run folders: all of a file or none of it, and trials that survive a kill."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amc_mobile import runs
from amc_mobile.errors import RunFolderError
from amc_mobile.runs import (
    RunFolder,
    append_line,
    append_trial,
    copy_file,
    keep_trials,
    read_json,
    read_trials,
    write_bytes,
    write_json,
)
from amc_mobile.trials import Trial
from amc_mobile.types import Cost, Score

shares = st.floats(0, 1)
trials = st.builds(
    Trial,
    index=st.integers(0, 999),
    agent=st.sampled_from(["ddpg", "uniform"]),
    phase=st.sampled_from(["opponent", "warmup", "explore"]),
    kept=st.lists(st.integers(1, 512), min_size=1, max_size=5).map(tuple),
    cost=st.builds(
        Cost, st.integers(0), st.integers(0), st.integers(0), st.one_of(st.none(), st.floats(0, allow_infinity=False))
    ),
    score=st.builds(Score, shares, shares, shares, st.integers(1, 10_000)),
    reward=st.floats(-1e9, 1e9),
    seconds=st.floats(0, 1e6),
)


@settings(max_examples=40)
@given(st.lists(trials, max_size=5))
def test_trials_are_read_back_bit_for_bit(tmp_path_factory, written):
    path = tmp_path_factory.mktemp("run") / "trials.jsonl"
    for trial in written:
        append_trial(path, trial)
    assert read_trials(path) == written


@settings(max_examples=40)
@given(st.lists(trials, min_size=1, max_size=3), st.data())
def test_a_line_torn_anywhere_is_dropped_and_nothing_else(tmp_path_factory, written, data):
    path = tmp_path_factory.mktemp("run") / "trials.jsonl"
    keep_trials(path, written)
    whole = path.read_bytes()
    last = len(whole) - whole[:-1].rfind(b"\n") - 1
    path.write_bytes(whole[: len(whole) - data.draw(st.integers(1, last))])
    assert read_trials(path) == written[:-1]


def test_damage_before_the_end_is_reported(tmp_path):
    path = tmp_path / "trials.jsonl"
    path.write_bytes(b'{"index": 0}\n')
    with pytest.raises(RunFolderError, match="damaged"):
        read_trials(path)


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch):
    path = tmp_path / "file.json"
    write_json(path, {"version": 1})

    def full_disk(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runs.os, "fsync", full_disk)
    with pytest.raises(RunFolderError, match="No space left on device"):
        write_json(path, {"version": 2})
    assert read_json(path) == {"version": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_write_leaves_no_rest(tmp_path, monkeypatch):
    def interrupt(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(runs.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(tmp_path / "file", b"data")
    assert not list(tmp_path.iterdir())


def test_what_json_cannot_say_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "file.json", {"value": float("nan")})
    assert not list(tmp_path.iterdir())


def test_dataclasses_become_plain_json(tmp_path):
    path = tmp_path / "file.json"
    write_json(path, {"costs": (Cost(1, 2, 3, None),)})
    assert json.loads(path.read_text(encoding="utf-8")) == {
        "costs": [
            {"macs": 1, "params": 2, "bytes": 3, "latency_us": None, "memory_bytes": 0, "elsewhere_us": {}},
        ]
    }


@pytest.mark.parametrize("content", ["", "{", "\x00"])
def test_a_damaged_file_says_what_to_do(tmp_path, content):
    path = tmp_path / "file.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(RunFolderError, match=r"file\.json is damaged .*delete it"):
        read_json(path)


def test_a_folder_that_cannot_be_made_says_so(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(RunFolderError, match="choose another with --out"):
        RunFolder(tmp_path / "file" / "run").create()


def test_a_missing_file_names_the_command_that_makes_it(tmp_path):
    folder = RunFolder(Path(tmp_path))
    with pytest.raises(RunFolderError, match=r"no search\.json yet; type `amc search` first"):
        folder.require(folder.search, "search")


def test_a_sweep_removes_torn_files_only(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run").create()
    (folder.root / ".policy.json.123.tmp").write_bytes(b"half")
    folder.policy.write_text("{}")
    folder.sweep()
    assert [path.name for path in folder.root.iterdir()] == ["policy.json"]


@pytest.mark.parametrize("name", ["pixel", "192.168.1.5:5555", "../../etc/passwd", "a/b", "", "Größe", ".", "x" * 300])
def test_a_device_of_any_name_has_a_file_of_its_own(tmp_path: Path, name: str) -> None:
    folder = RunFolder(tmp_path)
    path = folder.device_comparison(name)
    assert path.parent == folder.devices and path.suffix == ".json"
    folder.devices.mkdir(exist_ok=True)
    path.touch()
    assert list(folder.devices.iterdir()) == [path]
    assert path != folder.device_comparison(name + "_")


def test_plain_names_stay_readable(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.device_comparison("pixel_7").name == "pixel_7.json"
    assert folder.device_comparison("192.168.1.5:5555").name == "192.168.1.5_5555.json"


def test_a_copied_file_does_not_change_with_its_source(tmp_path):
    (tmp_path / "a").mkdir()
    source, target = tmp_path / "a" / "gram.npz", tmp_path / "b" / "gram.npz"
    write_bytes(source, b"first")
    copy_file(source, target)
    write_bytes(source, b"second")
    assert target.read_bytes() == b"first"
    assert [path.name for path in target.parent.iterdir()] == ["gram.npz"]


def test_a_copied_file_that_grows_shares_nothing(tmp_path):
    source, target = tmp_path / "trials.jsonl", tmp_path / "copy.jsonl"
    append_line(source, 1)
    copy_file(source, target)
    append_line(target, 2)
    assert source.read_bytes() == b"1\n"
    assert target.read_bytes() == b"1\n2\n"


def test_a_copy_of_nothing_is_one_line(tmp_path):
    with pytest.raises(RunFolderError, match=r"cannot copy .*none to .*: No such file"):
        copy_file(tmp_path / "none", tmp_path / "copy")

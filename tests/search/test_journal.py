"""What is on disk after a crash is enough to go on, and nothing else is continued."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from amc_mobile.errors import RunFolderError
from amc_mobile.runs import RunFolder, append_trial, read_trials
from amc_mobile.search.journal import Journal
from amc_mobile.trials import Trial
from amc_mobile.types import Cost, Score

SETTINGS = {"seed": "0", "search.episodes": "400"}
SCORE = Score(0.5, 0.8, 1.0, 9)
FIRST = Trial(0, "uniform", "opponent", (3, 8), Cost(10, 20, 30, elsewhere_us={"pixel": 0.1}), SCORE, -0.5, 0.1)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def test_a_search_goes_on_where_it_was(folder: RunFolder) -> None:
    journal = Journal(folder, SETTINGS)
    assert (journal.trials, journal.probes) == ([], {})
    journal.record(FIRST)
    journal.note((1, 8), SCORE)
    journal.record(replace(FIRST, index=1))
    journal.note((2, 8), replace(SCORE, kl=1 / 3))
    again = Journal(folder, SETTINGS)
    assert again.trials == journal.trials == [FIRST, replace(FIRST, index=1)]
    assert again.probes == journal.probes == {(1, 8): SCORE, (2, 8): replace(SCORE, kl=1 / 3)}


@pytest.mark.parametrize("tail", [b'{"index": 2, "ag', b"\x00\x00", b"{"])
def test_torn_lines_are_dropped_and_written_over(folder: RunFolder, tail: bytes) -> None:
    journal = Journal(folder, SETTINGS)
    journal.record(FIRST)
    journal.note((1, 8), SCORE)
    for path in (folder.trials, folder.probes):
        with path.open("ab") as stream:
            stream.write(tail)
    again = Journal(folder, SETTINGS)
    again.record(replace(FIRST, index=1))
    again.note((2, 8), SCORE)
    assert read_trials(folder.trials) == [FIRST, replace(FIRST, index=1)]
    assert Journal(folder, SETTINGS).probes == {(1, 8): SCORE, (2, 8): SCORE}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"seed": "1", "search.episodes": "400"}, "seed was 0, is 1"),
        ({"seed": "0", "search.episodes": "120"}, "search.episodes was 400, is 120"),
        ({"seed": "0"}, "search.episodes was 400, is None"),
    ],
)
def test_other_settings_are_refused_by_name(folder: RunFolder, settings: dict[str, str], told: str) -> None:
    Journal(folder, SETTINGS).record(FIRST)
    before = {path.name: path.read_bytes() for path in folder.root.iterdir()}
    with pytest.raises(RunFolderError) as caught:
        Journal(folder, settings)
    assert told in str(caught.value)
    assert "--out DIR" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert {path.name: path.read_bytes() for path in folder.root.iterdir()} == before


@pytest.mark.parametrize(
    "damage", [b"", b"no JSON", b"[]", b'{"schema": 1}', b'{"schema": 2}', b'{"schema": 2, "settings": 1}', None]
)
def test_damaged_settings_are_told_in_one_line(folder: RunFolder, damage: bytes | None) -> None:
    Journal(folder, SETTINGS).record(FIRST)
    whole = folder.checkpoint.read_bytes()
    folder.checkpoint.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    with pytest.raises(RunFolderError, match=r"search\.begun\.json is damaged.*delete it") as caught:
        Journal(folder, SETTINGS)
    assert "\n" not in str(caught.value)
    assert read_trials(folder.trials) == [FIRST]


@pytest.mark.parametrize("damage", [b"no JSON\n", b'{"kept": [1]}\n', b'{"kept": [1], "score": {"top1": 1}}\n'])
def test_damaged_probes_are_told_in_one_line(folder: RunFolder, damage: bytes) -> None:
    Journal(folder, SETTINGS).note((1, 8), SCORE)
    with folder.probes.open("ab") as stream:
        stream.write(damage)
    with pytest.raises(RunFolderError, match=r"probes\.jsonl is damaged.*delete it") as caught:
        Journal(folder, SETTINGS)
    assert "\n" not in str(caught.value)


def test_trials_without_their_settings_are_not_overwritten(folder: RunFolder) -> None:
    append_trial(folder.trials, FIRST)
    with pytest.raises(RunFolderError, match=r"trials\.jsonl but no search\.begun\.json"):
        Journal(folder, SETTINGS)
    assert read_trials(folder.trials) == [FIRST]


def test_probes_of_a_search_that_was_deleted_are_not_believed(folder: RunFolder) -> None:
    Journal(folder, SETTINGS).note((1, 8), SCORE)
    folder.checkpoint.unlink()  # as the messages advise
    assert Journal(folder, {**SETTINGS, "seed": "1"}).probes == {}
    assert Journal(folder, {**SETTINGS, "seed": "1"}).probes == {}

"""What is on disk after a crash is enough to go on, and nothing else is continued."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from amc_mobile.errors import RunFolderError
from amc_mobile.runs import RunFolder, append_trial, read_trials
from amc_mobile.search.journal import Journal
from amc_mobile.types import Cost, Score, Trial

SETTINGS = {"seed": "0", "search.episodes": "400"}
FIRST = Trial(0, "uniform", "opponent", (3, 8), Cost(10, 20, 30), Score(0.5, 0.8, 1.0, 9), -0.5, 0.1)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def test_a_search_goes_on_where_it_was(folder: RunFolder) -> None:
    journal = Journal(folder, SETTINGS)
    assert not journal.continued
    journal.record(FIRST)
    journal.record(replace(FIRST, index=1), {"weights": torch.ones(2)})
    again = Journal(folder, SETTINGS)
    assert again.continued
    assert again.trials == [FIRST, replace(FIRST, index=1)]
    assert again.agent is not None
    assert torch.equal(again.agent["weights"], torch.ones(2))


@pytest.mark.parametrize("tail", [b"", b'{"index": 2, "ag', b"\x00\x00"])
def test_lines_that_the_checkpoint_does_not_know_are_dropped(folder: RunFolder, tail: bytes) -> None:
    journal = Journal(folder, SETTINGS)
    journal.record(FIRST)
    append_trial(folder.trials, replace(FIRST, index=1))  # killed before the checkpoint
    with folder.trials.open("ab") as stream:
        stream.write(tail)
    assert Journal(folder, SETTINGS).trials == [FIRST] == read_trials(folder.trials)


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
    before = folder.trials.read_bytes()
    with pytest.raises(RunFolderError) as caught:
        Journal(folder, settings)
    assert told in str(caught.value)
    assert "--out DIR" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert folder.trials.read_bytes() == before


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", None])
def test_a_damaged_checkpoint_is_told_in_one_line(folder: RunFolder, damage: bytes | None) -> None:
    Journal(folder, SETTINGS).record(FIRST)
    whole = folder.checkpoint.read_bytes()
    folder.checkpoint.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    with pytest.raises(RunFolderError, match=r"search\.pt cannot be read") as caught:
        Journal(folder, SETTINGS)
    assert "\n" not in str(caught.value)


def test_missing_trials_are_not_papered_over(folder: RunFolder) -> None:
    Journal(folder, SETTINGS).record(FIRST)
    folder.trials.unlink()
    with pytest.raises(RunFolderError, match=r"0 trials.*knows of 1"):
        Journal(folder, SETTINGS)


def test_trials_without_a_checkpoint_are_not_overwritten(folder: RunFolder) -> None:
    append_trial(folder.trials, FIRST)
    with pytest.raises(RunFolderError, match=r"trials\.jsonl but no search\.pt"):
        Journal(folder, SETTINGS)
    assert read_trials(folder.trials) == [FIRST]

"""The search on disk: what was evaluated is all that a search has to remember. It can be killed between any two writes.

Agents are repeatable: with the same seed and the same answers they ask the same questions. So a resumed search is run
again from its start, with the recorded answers at hand, and goes on where they end. `trials.jsonl` holds the policies
within the budget, in order; `probes.jsonl` what else was evaluated (one group alone, networks above the budget).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from amc_mobile.errors import RunFolderError
from amc_mobile.runs import (
    RunFolder,
    append_line,
    append_trial,
    keep_trials,
    read_json,
    read_trials,
    write_bytes,
    write_json,
)
from amc_mobile.trials import Trial
from amc_mobile.types import Score

SCHEMA = 2

Kept = tuple[int, ...]  # channels of every group


class Journal:
    """What a search has done so far, in memory and in its run folder.

    `fingerprint` names every setting that the answers depend on: a search is only continued under equal ones.
    """

    def __init__(self, folder: RunFolder, fingerprint: Mapping[str, str]) -> None:
        """Opens the folder's search, or starts one. Raises: RunFolderError if it is damaged or under other settings."""
        self.trials: list[Trial] = []
        self.probes: dict[Kept, Score] = {}
        self._folder = folder
        self._fingerprint = dict(fingerprint)
        if folder.checkpoint.exists():
            self._resume()
        else:
            self._start()

    def record(self, trial: Trial) -> None:
        """Adds a trial."""
        append_trial(self._folder.trials, trial)
        self.trials.append(trial)

    def note(self, kept: Kept, score: Score) -> None:
        """Adds a probe."""
        append_line(self._folder.probes, {"kept": kept, "score": score})
        self.probes[kept] = score

    def _start(self) -> None:
        if self._folder.trials.exists():
            raise RunFolderError(
                f"{self._folder.root} has trials.jsonl but no {self._folder.checkpoint.name} that says what they "
                f"belong to; delete {self._folder.trials} to search again, or choose another folder with --out DIR"
            )
        self._folder.probes.unlink(missing_ok=True)
        write_json(self._folder.checkpoint, {"schema": SCHEMA, "settings": self._fingerprint})

    def _resume(self) -> None:
        self._compare(self._settings())
        self.trials = read_trials(self._folder.trials)
        if self._folder.trials.exists():
            keep_trials(self._folder.trials, self.trials)  # without a last line torn by a crash
        if self._folder.probes.exists():
            whole = self._folder.probes.read_bytes().rpartition(b"\n")
            write_bytes(self._folder.probes, whole[0] + whole[1])
            self.probes = dict(_probe(line, self._folder) for line in whole[0].splitlines())

    def _settings(self) -> Mapping[str, str]:
        path = self._folder.checkpoint
        stored = read_json(path)
        settings = stored.get("settings") if isinstance(stored, dict) and stored.get("schema") == SCHEMA else None
        if not isinstance(settings, dict):
            raise RunFolderError(
                f"{path} is damaged or of another version; delete it and {self._folder.trials.name} to search again"
            )
        return settings

    def _compare(self, stored: Mapping[str, str]) -> None:
        names = [name for name in {**stored, **self._fingerprint} if stored.get(name) != self._fingerprint.get(name)]
        if names:
            changes = "; ".join(f"{name} was {stored.get(name)}, is {self._fingerprint.get(name)}" for name in names)
            raise RunFolderError(
                f"{self._folder.root} holds a search under other settings ({changes}); go back to those, choose "
                f"another folder with --out DIR, or delete {self._folder.checkpoint.name} and "
                f"{self._folder.trials.name} there to search again"
            )


def _probe(line: bytes, folder: RunFolder) -> tuple[Kept, Score]:
    try:
        values: dict[str, Any] = json.loads(line)
        return tuple(values["kept"]), Score(**values["score"])
    except (ValueError, KeyError, TypeError) as error:
        raise RunFolderError(f"{folder.probes} is damaged ({error}); delete it to go on without it") from error

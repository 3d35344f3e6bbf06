"""The search on disk: trials.jsonl grows by a line, search.pt follows; between any two instructions it can be killed.

A trial is first appended to trials.jsonl and then counted by search.pt, which also holds the whole agent. A kill
between the two leaves one line too many: it is dropped, and the trial is made again, the same.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from typing import Any

import torch

from amc_mobile.errors import RunFolderError
from amc_mobile.runs import RunFolder, append_trial, keep_trials, read_trials, write_bytes
from amc_mobile.types import Trial

SCHEMA = 1


class Journal:
    """What a search has done so far, in memory and in its run folder.

    `fingerprint` names every setting that the trials depend on: a search is only continued under equal ones.
    """

    def __init__(self, folder: RunFolder, fingerprint: Mapping[str, str]) -> None:
        """Opens the folder's search, or starts one. Raises: RunFolderError if it is damaged or under other settings."""
        self.trials: list[Trial] = []
        self.agent: dict[str, Any] | None = None
        self.continued = folder.checkpoint.exists()
        self._folder = folder
        self._fingerprint = dict(fingerprint)
        if self.continued:
            self._resume()
        else:
            self._start()

    def record(self, trial: Trial, agent: dict[str, Any] | None = None) -> None:
        """Adds a trial, and the agent as it is after it."""
        append_trial(self._folder.trials, trial)
        self.trials.append(trial)
        self.agent = agent
        self._save()

    def _start(self) -> None:
        if self._folder.trials.exists():
            raise RunFolderError(
                f"{self._folder.root} has trials.jsonl but no {self._folder.checkpoint.name} to continue from; "
                f"delete {self._folder.trials} to search again, or choose another folder with --out DIR"
            )
        self._save()

    def _resume(self) -> None:
        stored = self._load()
        self._compare(stored["fingerprint"])
        trials = read_trials(self._folder.trials)
        if len(trials) < stored["trials"]:
            raise RunFolderError(
                f"{self._folder.trials} has {len(trials)} trials, {self._folder.checkpoint.name} knows of "
                f"{stored['trials']}; delete both files to search again from the start"
            )
        self.trials = trials[: stored["trials"]]
        self.agent = stored["agent"]
        keep_trials(self._folder.trials, self.trials)

    def _load(self) -> dict[str, Any]:
        path = self._folder.checkpoint
        try:
            stored = torch.load(path, weights_only=True)
            if stored["schema"] != SCHEMA:
                raise ValueError(f"schema {stored['schema']}, this version writes {SCHEMA}")
        except (OSError, EOFError, RuntimeError, ValueError, KeyError, TypeError, pickle.UnpicklingError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise RunFolderError(
                f"{path} cannot be read ({reason}); delete it and {self._folder.trials.name} to search again"
            ) from error
        return stored  # type: ignore[no-any-return]

    def _compare(self, stored: Mapping[str, str]) -> None:
        names = [name for name in {**stored, **self._fingerprint} if stored.get(name) != self._fingerprint.get(name)]
        if names:
            changes = "; ".join(f"{name} was {stored.get(name)}, is {self._fingerprint.get(name)}" for name in names)
            raise RunFolderError(
                f"{self._folder.root} holds a search under other settings ({changes}); go back to those, choose "
                f"another folder with --out DIR, or delete {self._folder.checkpoint.name} and "
                f"{self._folder.trials.name} there to search again"
            )

    def _save(self) -> None:
        stream = io.BytesIO()
        checkpoint = {
            "schema": SCHEMA,
            "fingerprint": self._fingerprint,
            "trials": len(self.trials),
            "agent": self.agent,
        }
        torch.save(checkpoint, stream)
        write_bytes(self._folder.checkpoint, stream.getvalue())

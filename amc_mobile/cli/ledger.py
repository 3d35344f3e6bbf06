"""stages.json: which stages of a run are finished, made from which inputs, in how many seconds.

Beside that, what the files and folders held that the settings name: see inputs.remembered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from amc_mobile.errors import RunFolderError
from amc_mobile.runs import read_json, write_json

_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known about one stage. `inputs` is the fingerprint of everything that it was made from."""

    inputs: str
    finished: bool
    seconds: float


class Ledger:
    """The book of a run's stages, on disk after every change."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries, self._held = _read(path) if path.exists() else ({}, {})

    @property
    def held(self) -> Mapping[str, str]:
        """What the files and folders that settings name held when a stage was last begun."""
        return self._held

    def remember(self, held: Mapping[str, str]) -> None:
        """Notes what files and folders hold now; of those that are absent, what they held stays known."""
        if held.items() <= self._held.items():
            return
        self._held |= held
        self._write()

    def finished(self, stage: str, inputs: str) -> bool:
        """Whether the stage is done, from exactly these inputs."""
        entry = self._entries.get(stage)
        return entry is not None and entry.finished and entry.inputs == inputs

    def begun(self, stage: str, inputs: str) -> bool:
        """Whether the stage was begun, and perhaps finished, from exactly these inputs."""
        entry = self._entries.get(stage)
        return entry is not None and entry.inputs == inputs

    def begin(self, stage: str, inputs: str) -> None:
        """Notes that the stage is under way; the seconds of an interrupted attempt from the same inputs are kept."""
        seconds = self._entries[stage].seconds if self.begun(stage, inputs) else 0.0
        self._set(stage, Entry(inputs, False, seconds))

    def pause(self, stage: str, inputs: str, seconds: float) -> None:
        """Adds the seconds of an attempt that was interrupted."""
        self._set(stage, Entry(inputs, False, self._entries[stage].seconds + seconds))

    def finish(self, stage: str, inputs: str, seconds: float) -> None:
        """Notes that the stage is done; `seconds` are added to those of interrupted attempts."""
        self._set(stage, Entry(inputs, True, self._entries[stage].seconds + seconds))

    def reopen(self, stages: Iterable[str]) -> None:
        """Notes that finished stages are to be done again, from the beginning: their files were written over."""
        for stage in stages:
            entry = self._entries.get(stage)
            if entry is not None and entry.finished:
                self._set(stage, Entry("", False, 0.0))

    def seconds(self) -> dict[str, float]:
        """Seconds spent in every finished stage, in the order in which they were begun."""
        return {name: round(entry.seconds, 2) for name, entry in self._entries.items() if entry.finished}

    def _set(self, stage: str, entry: Entry) -> None:
        self._entries[stage] = entry
        self._write()

    def _write(self) -> None:
        write_json(self._path, {"schema": _SCHEMA, "stages": self._entries, "held": self._held})


def _read(path: Path) -> tuple[dict[str, Entry], dict[str, str]]:
    try:
        found = read_json(path)
        return {name: Entry(**values) for name, values in found["stages"].items()}, dict(found.get("held", {}))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunFolderError(f"{path} is damaged; delete it to run every stage again") from error

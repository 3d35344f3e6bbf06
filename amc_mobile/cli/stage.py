"""A stage: one step of the job that reads files of a run folder and writes files into it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from amc_mobile.cli.inputs import NOTHING, identity
from amc_mobile.cli.settings import flat

if TYPE_CHECKING:
    from amc_mobile.cli.session import Session
    from amc_mobile.config import RunConfig
    from amc_mobile.device.protocol import Progress
    from amc_mobile.runs import RunFolder

_VERSION = 3  # raised when a stage's files change their meaning, so that older ones are made again


@dataclass(frozen=True, slots=True)
class Stage:
    """One step: what it does, what it depends on, which files it leaves.

    `settings` are sections ("search") or single settings ("data.name") of the config; `after` the stages whose files it
    reads. Together they decide whether finished work still counts. `checkpoints` are of use only while the stage is
    half done; `extras` are files that it may leave beside its outputs; `rewrites` are stages whose files it
    replaces: they and what follows from them are to be done again, as training is not the same to the bit twice.
    """

    name: str
    does: str
    work: Callable[[Session, Progress], None]
    after: tuple[str, ...]
    settings: tuple[str, ...]
    outputs: Callable[[RunFolder], tuple[Path, ...]]
    checkpoints: Callable[[RunFolder], tuple[Path, ...]] = lambda folder: ()
    extras: Callable[[RunFolder], tuple[Path, ...]] = lambda folder: ()
    rewrites: tuple[str, ...] = ()

    def complete(self, folder: RunFolder) -> bool:
        """Whether all of its files are there."""
        return all(path.is_file() for path in self.outputs(folder))

    def clear(self, folder: RunFolder) -> None:
        """Removes its files, finished or not."""
        for path in (*self.outputs(folder), *self.checkpoints(folder), *self.extras(folder)):
            path.unlink(missing_ok=True)

    def tidy(self, folder: RunFolder) -> None:
        """Removes what is of no use once the stage is finished."""
        for path in self.checkpoints(folder):
            path.unlink(missing_ok=True)


def fingerprints(stages: Sequence[Stage], config: RunConfig, known: Mapping[str, str] = NOTHING) -> dict[str, str]:
    """For every stage a digest of all that its outputs follow from: settings, input files, and the stages before it.

    `known` tells what input files held that are not there now: see inputs.identity.
    """
    found: dict[str, str] = {}
    values = flat(config)
    for stage in stages:
        content = {
            "version": _VERSION,
            "stage": stage.name,
            "settings": _chosen(values, stage.settings, known),
            "after": {name: found[name] for name in stage.after},
        }
        found[stage.name] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
    return found


def _chosen(values: Mapping[str, object], settings: Sequence[str], known: Mapping[str, str]) -> dict[str, object]:
    return {
        path: identity(path, value, known)
        for path, value in values.items()
        if path in settings or path.partition(".")[0] in settings
    }

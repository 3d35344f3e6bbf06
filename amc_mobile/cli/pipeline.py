"""What runs the stages of a run: each is skipped when its files already follow from the same inputs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from amc_mobile import config as configuration
from amc_mobile.cli.console import note, progress_line, working
from amc_mobile.cli.inputs import remembered
from amc_mobile.cli.ledger import Ledger
from amc_mobile.cli.lock import locked
from amc_mobile.cli.session import Session
from amc_mobile.cli.settings import differences, flat, override
from amc_mobile.cli.stage import Stage, fingerprints
from amc_mobile.cli.stage_list import stages
from amc_mobile.errors import ConfigError, RunFolderError
from amc_mobile.runs import RunFolder, copy_file, write_text

if TYPE_CHECKING:
    from amc_mobile.config import RunConfig

_DECIDE = ("search", "refine", "settle")  # the stages that choose the widths, in this order
_VERBS = {"quantise": "export", "evaluate": "report"}  # stages without a command of their name


def open_run(config: RunConfig, *, update: bool = False) -> RunFolder:
    """The config's folder, made if need be, with the config in it. Call it under no lock.

    Raises: RunFolderError if the folder holds another run and `update` is not set.
    """
    folder = RunFolder(config.out)
    if folder.config.is_file():
        changed = differences(configuration.load(folder.config), config, known=Ledger(folder.stages).held)
        if changed and not update:
            raise RunFolderError(
                f"{folder.root} was made with other settings ({'; '.join(changed)}); choose another --out, "
                "--update to redo what depends on them, or --fresh to start over"
            )
        if not changed:
            return folder.create()
    elif folder.root.is_dir() and any(folder.root.iterdir()) and not (folder.root / ".lock").is_file():
        raise RunFolderError(f"{folder.root} is not empty and is no run folder; choose another with --out DIR")
    return folder.create()


def start_over(config: RunConfig) -> None:
    """Removes the files of every stage and the book of them; other files in the folder stay."""
    folder = RunFolder(config.out)
    if not folder.root.is_dir():
        return
    with locked(folder.root):
        for stage in (*stages(config), *_former_stages(folder)):
            stage.clear(folder)
        for path in (folder.config, folder.stages):
            path.unlink(missing_ok=True)


def _former_stages(folder: RunFolder) -> list[Stage]:
    """The stages of the run that is in the folder now; none where its settings cannot be read."""
    try:
        return list(stages(configuration.load(folder.config))) if folder.config.is_file() else []
    except ConfigError:
        return []


class Pipeline:
    """The stages of one run folder. With `force`, this process does as under `profile.force`; the config stays."""

    def __init__(self, folder: RunFolder, config: RunConfig, *, force: bool = False) -> None:
        self.folder = folder
        self.config = config
        self.force = force
        self.stages = stages(config)
        self._inputs = fingerprints(self.stages, config, Ledger(folder.stages).held)

    def finished(self, name: str) -> bool:
        """Whether the stage is done from the inputs of today."""
        ledger = Ledger(self.folder.stages)
        return ledger.finished(name, self._inputs[name]) and self._stage(name).complete(self.folder)

    def session(self) -> Session:
        """What the stages share, read from the folder when it is needed."""
        once = {"profile.force": True} if self.force else {}
        return Session(self.folder, override(self.config, once))

    @property
    def decided(self) -> str:
        """The stage after which the trials are final: settling may search again and number them anew."""
        return [stage.name for stage in self.stages if stage.name in _DECIDE][-1]

    def require(self, name: str) -> None:
        """Raises: RunFolderError if the stage is not done, with the command that does it, or what comes before it."""
        if self.finished(name):
            return
        first = self.first_missing(name) or name
        verb = self.command_for(first)
        do = f"`{verb}`{'' if first == name else ' first'}, or " if verb else ""
        raise RunFolderError(
            f"{self.folder.root}: {name} is not done with the present settings; "
            f"type {do}`amc run {self.folder.config}` for everything"
        )

    def command_for(self, stage: str) -> str:
        """The command that does this stage next, with the settings of today; empty if only the whole run does."""
        run, epochs, point = self.folder.root, self.config.finetune.epochs, self.config.prune.point
        order = [each.name for each in self.stages]
        if order.index(stage) <= order.index(self.decided):
            return f"amc search --config {self.folder.config} --out {run}"
        if stage in ("prune", "finetune") and not epochs:
            return f"amc prune {run}" + ("" if point is None else f" --point {point}")
        if stage == "prune":  # the command of that name takes the training back
            return ""
        if stage == "finetune":
            return f"amc finetune {run} --epochs {epochs}"
        return f"amc {_VERBS.get(stage, stage)} {run}"

    def first_missing(self, name: str) -> str | None:
        """The first unfinished stage of this one and those that it follows from, None if there is none."""
        needed = self._with_sources(name)
        return next((one.name for one in self.stages if one.name in needed and not self.finished(one.name)), None)

    def require_before(self, names: Sequence[str]) -> None:
        """Raises: ConfigError for a name that no stage has; RunFolderError if one needs a stage that is not done."""
        known = [stage.name for stage in self.stages]
        if unknown := [name for name in names if name not in known]:
            raise ConfigError(f"this run has no stage {unknown[0]!r}; its stages are {', '.join(known)}")
        for name in names:
            for before in self._stage(name).after:
                if before not in names:
                    self.require(before)

    def run(self, names: Sequence[str] | None = None, *, again: bool = False, reuse: Sequence[RunFolder] = ()) -> None:
        """Does the named stages (all if None) that are not done yet (`again`: all the same), and keeps the book.

        What a folder of `reuse` finished from the very same inputs is taken from there.
        """
        with locked(self.folder.root), working():
            self.folder.sweep()
            write_text(self.folder.config, configuration.dump(self.config))
            Ledger(self.folder.stages).remember(remembered(flat(self.config)))
            session = self.session()
            for stage in self.stages:
                if names is not None and stage.name not in names:
                    continue
                if not any(self._take_over(stage, other) for other in reuse):
                    self._do(stage, session, again)

    def _take_over(self, stage: Stage, other: RunFolder) -> bool:
        """Takes the stage's files from another folder, if they are finished there and follow from the same inputs."""
        inputs, theirs = self._inputs[stage.name], Ledger(other.stages)
        if self.finished(stage.name) or not theirs.finished(stage.name, inputs) or not stage.complete(other):
            return False
        ledger = Ledger(self.folder.stages)
        stage.clear(self.folder)
        ledger.begin(stage.name, inputs)
        for path in (*stage.outputs(other), *stage.extras(other)):
            if path.is_file():
                copy_file(path, self.folder.root / path.relative_to(other.root))
        ledger.finish(stage.name, inputs, 0.0)
        note(f"{stage.name:>10}  taken from {other.root}")
        return True

    def _do(self, stage: Stage, session: Session, again: bool) -> None:
        ledger, inputs = Ledger(self.folder.stages), self._inputs[stage.name]
        if self.finished(stage.name) and not again:
            note(f"{stage.name:>10}  done before")
            return
        former = self.finished(stage.name)  # its files stay until there are others
        if former:
            stage.tidy(self.folder)
        elif again or not ledger.begun(stage.name, inputs):
            stage.clear(self.folder)  # what is left of other settings must not be resumed
        ledger.begin(stage.name, inputs)
        start = time.monotonic()
        try:
            with progress_line(stage.name) as progress:
                stage.work(session, progress)
        except BaseException:
            if former and stage.complete(self.folder):
                ledger.finish(stage.name, inputs, 0.0)
            else:
                ledger.pause(stage.name, inputs, time.monotonic() - start)
            raise
        ledger.reopen(one.name for one in self.stages if self._with_sources(one.name) & set(stage.rewrites))
        ledger.finish(stage.name, inputs, time.monotonic() - start)
        stage.tidy(self.folder)
        note(f"{stage.name:>10}  done in {time.monotonic() - start:.1f} s")

    def _with_sources(self, name: str) -> set[str]:
        """This stage and all that it follows from."""
        found = {name}
        for stage in reversed(self.stages):
            if stage.name in found:
                found.update(stage.after)
        return found

    def _stage(self, name: str) -> Stage:
        return next(stage for stage in self.stages if stage.name == name)

"""All stages in their order, and what runs them: each is skipped when its files already follow from the same inputs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from amc_mobile import config as configuration
from amc_mobile.cli import bare_onnx, decisions, fine_grained, judgement, originals, quantising, settling
from amc_mobile.cli.console import note, progress_line, working
from amc_mobile.cli.ledger import Ledger
from amc_mobile.cli.lock import locked
from amc_mobile.cli.measuring import refused
from amc_mobile.cli.session import Session
from amc_mobile.cli.settings import differences
from amc_mobile.cli.stage import Stage, fingerprints
from amc_mobile.errors import ConfigError, RunFolderError
from amc_mobile.runs import RunFolder, copy_file, write_text

if TYPE_CHECKING:
    from amc_mobile.config import RunConfig

_MEASURED = tuple(
    f"profile.{key}" for key in ("table", "method", "carriers", "rounds", "warmups", "runs", "min_time_s")
)
_WIDTHS = ("device.min_keep_ratio", "device.round_to")
_AFTER_SEARCH = ("point", "refresh")  # settings of the cut that the search does not know of
_JUDGED = tuple(f"prune.{name}" for name in configuration.PruneConfig.model_fields if name not in _AFTER_SEARCH)
_KIND = ("model.task", "model.classes", "model.image_size")  # of a detector
_IMAGES = ("data", "model.mean", "model.std", "seed")


def stages(config: RunConfig) -> tuple[Stage, ...]:
    """The whole job under this config, in order. Only a latency search depends on the table."""
    timed = ("profile",) if config.needs_table else ()
    settled = (_settling(),) if config.needs_table and config.search.granularity == "channel" else ()
    cut = fine_grained if config.search.granularity == "weight" else decisions
    return (
        *(_from_module(config) if config.model.onnx is None else _from_file()),
        Stage(
            "profile",
            "measure the device and fit its latency table",
            originals.profile,
            after=("graph",),
            settings=("device", *_MEASURED, "seed", "search.min_keep_ratio", "search.round_to"),
            outputs=lambda folder: (folder.table, folder.table.with_suffix(".csv")),
            checkpoints=_profile_checkpoints,
        ),
        Stage(
            "calibrate",
            "run the calibration images once for the least-squares repair",
            originals.calibrate,
            after=("graph",),
            settings=(*_IMAGES, "prune.points_per_image", "search.granularity"),
            outputs=lambda folder: () if config.search.granularity == "weight" else (folder.gram,),
            extras=lambda folder: (folder.ranking,),
        ),
        Stage(
            "search",
            "let the agent choose how many channels every group keeps",
            decisions.search,
            after=("calibrate", *timed),
            settings=(*_IMAGES, "budget", "search", *_JUDGED, *_WIDTHS),
            outputs=lambda folder: (folder.search, folder.trials),
            extras=lambda folder: (folder.checkpoint, folder.probes, folder.sensitivity, folder.pareto),
        ),
        *settled,
        Stage(
            "prune",
            "cut the network and repair it by least squares",
            cut.prune,
            after=("settle",) if settled else ("search",),
            settings=("prune",),
            outputs=lambda folder: (folder.policy,),
            extras=lambda folder: (folder.why,),
        ),
        Stage(
            "finetune",
            "train the pruned network",
            cut.finetune,
            after=("prune",),
            settings=(*_IMAGES, "finetune"),
            outputs=lambda folder: (folder.weights,) if config.model.onnx is None else (),
            checkpoints=lambda folder: (folder.root / "finetune.partial",),
            extras=lambda folder: (folder.finetuning,),
        ),
        Stage(
            "export",
            "write the ONNX file that ships and check its answers",
            cut.export,
            after=("finetune",),
            settings=(),
            outputs=lambda folder: (folder.model_onnx,),
        ),
        _quantising(),
        Stage(
            "evaluate",
            "test every network on images that the search never saw",
            judgement.evaluate,
            after=("quantise",),
            settings=(*_IMAGES, "int8", "device.precision"),
            outputs=lambda folder: (folder.accuracy,),
            extras=lambda folder: (folder.detections,),
        ),
        Stage(
            "bench",
            "time original and pruned network on the device, interleaved",
            judgement.bench,
            after=("quantise",),
            settings=("device", "bench", "seed"),
            outputs=lambda folder: (folder.comparison,),
        ),
        Stage(
            "report",
            "write the summary and the report",
            judgement.report,
            after=("evaluate", "bench"),
            settings=(),
            outputs=lambda folder: (folder.summary, folder.report),
            extras=lambda folder: (folder.report.with_suffix(".md"), folder.report.with_suffix(".json")),
        ),
    )


def _settling() -> Stage:
    """After a search by latency: is the table right about the network that was chosen?"""
    return Stage(
        "settle",
        "time the chosen network; repair the table and finish the search again if it was off",
        settling.settle,
        after=("search",),
        settings=("profile.tolerance", "profile.repairs"),
        outputs=lambda folder: (folder.settled,),
        checkpoints=lambda folder: (settling.repair_checkpoint(folder.root),),
        extras=lambda folder: settling.leftovers(folder.root),
    )


def _quantising() -> Stage:
    """Original and pruned network in int8, if they are wanted and can be quantised."""
    return Stage(
        "quantise",
        "write original and pruned network in int8, calibrated on images",
        quantising.quantise,
        after=("export",),
        settings=(*_IMAGES, "int8", "device.precision"),
        outputs=quantising.outputs,
        extras=lambda folder: (folder.original_int8, folder.model_int8),
    )


def _from_module(config: RunConfig) -> tuple[Stage, ...]:
    """From a PyTorch network to its one ONNX graph."""
    trained = ("data", "seed", "model.mean", "model.std", "train") if config.model.weights is None else ()
    return (
        Stage(
            "train",
            "train the network" if config.model.weights is None and config.training.epochs else "load the weights",
            originals.train,
            after=(),
            settings=("model.name", *_KIND, "model.weights", *trained),
            outputs=lambda folder: (folder.original_weights,),
            checkpoints=lambda folder: (folder.root / "train.partial",),
            extras=lambda folder: (folder.training,),
        ),
        Stage(
            "graph",
            "export the network once to ONNX and find its channel groups",
            originals.export,
            after=("train",),
            settings=("model.name", *_KIND, "model.skip", "search.granularity"),
            outputs=lambda folder: (folder.original_onnx, folder.graph),
            extras=lambda folder: (folder.parity,),
        ),
    )


def _from_file() -> tuple[Stage, ...]:
    """The same from a user's own ONNX file."""
    return (
        Stage(
            "train",
            "read the ONNX file; nothing is trained",
            bare_onnx.read,
            after=(),
            settings=("model.name",),
            outputs=lambda folder: (folder.original_onnx,),
            extras=lambda folder: (folder.parity,),
        ),
        Stage(
            "graph",
            "find its channel groups",
            bare_onnx.trace,
            after=("train",),
            settings=("model.name", "model.skip", "search.granularity"),
            outputs=lambda folder: (folder.graph,),
        ),
    )


def _profile_checkpoints(folder: RunFolder) -> tuple[Path, ...]:
    partial = originals.profile_checkpoint(folder)
    return partial, refused(partial)


def open_run(config: RunConfig, *, update: bool = False) -> RunFolder:
    """The config's folder, made if need be, with the config in it. Call it under no lock.

    Raises: RunFolderError if the folder holds another run and `update` is not set.
    """
    folder = RunFolder(config.out)
    if folder.config.is_file():
        changed = differences(configuration.load(folder.config), config)
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
        for stage in stages(config):
            stage.clear(folder)
        for path in (folder.config, folder.stages):
            path.unlink(missing_ok=True)


class Pipeline:
    """The stages of one run folder."""

    def __init__(self, folder: RunFolder, config: RunConfig) -> None:
        self.folder = folder
        self.config = config
        self.stages = stages(config)
        self._inputs = fingerprints(self.stages, config)

    def finished(self, name: str) -> bool:
        """Whether the stage is done from the inputs of today."""
        ledger = Ledger(self.folder.stages)
        return ledger.finished(name, self._inputs[name]) and self._stage(name).complete(self.folder)

    @property
    def decided(self) -> str:
        """The stage after which the trials are final: settling may search again and number them anew."""
        return "settle" if any(stage.name == "settle" for stage in self.stages) else "search"

    def require(self, name: str) -> None:
        """Raises: RunFolderError if the stage is not done, with the command that does it."""
        if not self.finished(name):
            verb = "search --out" if name in ("search", "settle") else name
            raise RunFolderError(
                f"{self.folder.root}: {name} is not done with the present settings; "
                f"type `amc {verb} {self.folder.root}`, or `amc run {self.folder.config}` for everything"
            )

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
            session = Session(self.folder, self.config)
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
        if again or not ledger.begun(stage.name, inputs):
            stage.clear(self.folder)  # what is left of other settings must not be resumed
        ledger.begin(stage.name, inputs)
        start = time.monotonic()
        try:
            with progress_line(stage.name) as progress:
                stage.work(session, progress)
        except BaseException:
            ledger.pause(stage.name, inputs, time.monotonic() - start)
            raise
        ledger.finish(stage.name, inputs, time.monotonic() - start)
        stage.tidy(self.folder)
        note(f"{stage.name:>10}  done in {time.monotonic() - start:.1f} s")

    def _stage(self, name: str) -> Stage:
        return next(stage for stage in self.stages if stage.name == name)

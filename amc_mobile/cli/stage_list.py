"""All stages of a run in their order: which settings and which stages the files of each follow from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from amc_mobile.cli import bare_onnx, decisions, fine_grained, judgement, originals, quantising, refining, settling
from amc_mobile.cli.measuring import refused
from amc_mobile.cli.stage import Stage
from amc_mobile.runs import RunFolder
from amc_mobile.sections.prune import PruneConfig

if TYPE_CHECKING:
    from amc_mobile.config import RunConfig

_MEASURED = tuple(
    f"profile.{key}" for key in ("table", "method", "carriers", "rounds", "turns", "warmups", "runs", "min_time_s")
)
_WIDTHS = ("device.min_keep_ratio", "device.round_to")
_AFTER_SEARCH = ("point", "refresh", "refine")  # settings of the cut that the search does not know of
_JUDGED = tuple(f"prune.{name}" for name in PruneConfig.model_fields if name not in _AFTER_SEARCH)
_KIND = ("model.task", "model.classes", "model.image_size")  # of a detector
_IMAGES = ("data", "model.mean", "model.std", "seed")


def stages(config: RunConfig) -> tuple[Stage, ...]:
    """The whole job under this config, in order. Only a latency search depends on the table."""
    timed = ("profile",) if config.needs_table else ()
    refined = (_refining(),) if config.refines else ()
    settles = config.needs_table and config.search.granularity == "channel"
    settled = (_settling("refine" if refined else "search"),) if settles else ()
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
            outputs=lambda folder: (folder.gram,),
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
        *refined,
        *settled,
        Stage(
            "prune",
            "cut the network and repair it by least squares",
            cut.prune,
            after=tuple(stage.name for stage in (*refined, *settled))[-1:] or ("search",),
            settings=("prune",),
            outputs=lambda folder: (folder.policy,),
            extras=lambda folder: (folder.why,),
            rewrites=("finetune",) if config.finetune.epochs else (),  # weights.pt
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


def _refining() -> Stage:
    """After a search: the best policies as they will be repaired."""
    return Stage(
        "refine",
        "judge the best policies as they will be repaired, and improve the best of them",
        refining.refine,
        after=("search",),
        settings=("prune.refine", "prune.refresh"),
        outputs=lambda folder: (folder.refined,),
        extras=lambda folder: refining.leftovers(folder.root),
    )


def _settling(after: str) -> Stage:
    """After a search by latency: is the table right about the network that was chosen?"""
    return Stage(
        "settle",
        "time the chosen network; repair the table and finish the search again if it was off",
        settling.settle,
        after=(after,),
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

"""The stages that judge: accuracy on unseen images, time on the device, and the report of it all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amc_mobile.cli.showing import show_examples
from amc_mobile.runs import read_json, write_json
from amc_mobile.types import ACCURACIES, Policy, Score

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    import onnx

    from amc_mobile.cli.session import Session
    from amc_mobile.device.protocol import Progress
    from amc_mobile.types import AccuracyName, RewardName, TaskName


_NETWORKS = ("original", "pruned", "finetuned", "uniform", "original_int8", "int8", "uniform_int8")


def evaluate(session: Session, progress: Progress) -> None:
    """accuracy.json: original, repaired, fine-tuned and uniformly pruned network on the test images, in int8, too.

    The uniform opponent has the same budget and the same repair; it is compared before any fine-tuning. What is not
    there is null. Intervals are 95 %, image by image, as all networks answer the same.
    """
    from amc_mobile.cli.quantising import in_int8
    from amc_mobile.cli.session import read_onnx
    from amc_mobile.models.evaluation import complete
    from amc_mobile.models.outcomes import Outcomes

    config, folder = session.config, session.folder
    networks: dict[str, Callable[[], onnx.ModelProto]] = {
        "original": lambda: session.original_onnx,
        "pruned": lambda: read_onnx(folder.model_onnx),  # the very network that ships
    }
    if config.finetune.epochs > 0:
        networks["pruned"] = lambda: session.final(session.policy(), progress)
        networks["finetuned"] = lambda: read_onnx(folder.model_onnx)
    if (uniform := uniform_policy(session)) is not None:
        networks["uniform"] = lambda: session.final(uniform, progress)
    if folder.model_int8.is_file():
        networks["original_int8"] = lambda: read_onnx(folder.original_int8)
        networks["int8"] = lambda: read_onnx(folder.model_int8)
        if uniform is not None:
            networks["uniform_int8"] = lambda: in_int8(session, session.final(uniform, progress))
    evaluator = session.evaluator("test")
    scores: dict[str, dict[str, float] | None] = dict.fromkeys(_NETWORKS)
    metric = _metric(config.search.reward, session.entry.task)
    right: dict[str, np.ndarray] = {}
    for done, (name, network) in enumerate(networks.items()):
        progress(done, len(networks), name)
        outcomes = evaluator.outcomes(network())
        scores[name] = _shares(complete(outcomes))
        if isinstance(outcomes, Outcomes):
            right[name] = outcomes.ranks < (5 if metric == "top5" else 1)
    if session.entry.task == "detection":
        show_examples(session, session.original_onnx, read_onnx(folder.model_onnx))
    write_json(
        folder.accuracy,
        {
            "metric": metric,
            "precision": "int8" if config.device.precision == "int8" else "fp32",  # of the networks that are judged
            "test_images": len(session.splits.test.labels),
            "search_images": len(session.splits.search.labels),
            **scores,
            "change_ci": {
                "fp32": _interval(right, "original", "finetuned" if "finetuned" in right else "pruned"),
                "int8": _interval(right, "original_int8", "int8"),
            },
            "lead_ci": _interval(right, "uniform", "pruned"),
        },
    )


def _interval(right: Mapping[str, np.ndarray], before: str, after: str) -> tuple[float, float] | None:
    """Of the second network's accuracy less the first one's."""
    from amc_mobile.models.paired import change_interval

    return change_interval(right[before], right[after]) if {before, after} <= right.keys() else None


def bench(session: Session, progress: Progress) -> None:
    """comparison.json: original against pruned on the device, interleaved."""
    from amc_mobile.cli.benching import bench_device

    write_json(session.folder.comparison, bench_device(session, session.device, progress, table=session.table()))


def report(session: Session, progress: Progress) -> None:
    """summary.json, and report.html, report.md, report.json from the folder's files."""
    from amc_mobile.cli.summary import summarise
    from amc_mobile.report.write import write_report

    write_json(session.folder.summary, summarise(session.folder, session.config))
    write_report(session.folder)


def uniform_policy(session: Session) -> Policy | None:
    """The opponent that gives every group the same share, if it took part in the search."""
    opponents: list[dict[str, Any]] = read_json(session.folder.search)["opponents"]
    return next((Policy(tuple(trial["kept"])) for trial in opponents if trial["agent"] == "uniform"), None)


def _shares(score: Score) -> dict[str, float]:
    shares = {name: getattr(score, name) for names in ACCURACIES.values() for name in names}
    return {name: share for name, share in shares.items() if share is not None}


def _metric(reward: RewardName, task: TaskName) -> AccuracyName:
    """The accuracy that the run is about: the one that the agent is paid by, else the task's strict one."""
    return ACCURACIES[task][0] if reward == "kl" else reward

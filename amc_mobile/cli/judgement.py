"""The stages that judge: accuracy on unseen images, time on the device, and the report of it all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amc_mobile.runs import read_json, write_json
from amc_mobile.types import Policy, Score, TimingProtocol

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx

    from amc_mobile.cli.session import Session
    from amc_mobile.device.protocol import Progress


def evaluate(session: Session, progress: Progress) -> None:
    """accuracy.json: original, repaired, fine-tuned and uniformly pruned network on the test images.

    The uniform opponent has the same budget and the same repair; it is compared before any fine-tuning.
    """
    from amc_mobile.cli.session import read_onnx

    config, folder = session.config, session.folder
    networks: dict[str, Callable[[], onnx.ModelProto]] = {
        "original": lambda: session.original_onnx,
        "pruned": lambda: read_onnx(folder.model_onnx),  # the very network that ships
    }
    if config.finetune.epochs > 0:
        networks["pruned"] = lambda: session.final(session.policy())
        networks["finetuned"] = lambda: read_onnx(folder.model_onnx)
    if (uniform := _uniform(session)) is not None:
        networks["uniform"] = lambda: session.final(uniform)
    evaluator = session.evaluator("test")
    scores: dict[str, dict[str, float] | None] = {"finetuned": None, "uniform": None}
    for done, (name, network) in enumerate(networks.items()):
        progress(done, len(networks), name)
        scores[name] = _shares(evaluator.score(network()))
    write_json(
        folder.accuracy,
        {
            "metric": "top5" if config.search.reward == "top5" else "top1",
            "test_images": len(session.splits.test.labels),
            "search_images": len(session.splits.search.labels),
            **{name: scores[name] for name in ("original", "pruned", "finetuned", "uniform")},
        },
    )


def bench(session: Session, progress: Progress) -> None:
    """comparison.json: original against pruned on the device, interleaved."""
    from amc_mobile.cli.session import read_onnx
    from amc_mobile.profile.compare import compare
    from amc_mobile.profile.variants import Variants

    settings, folder = session.config.bench, session.folder
    protocol = TimingProtocol(
        rounds=settings.rounds,
        warmups=settings.warmups,
        runs=settings.runs,
        min_time_s=settings.min_time_s,
        seed=session.config.seed,
    )
    variants = Variants(session.traced, session.device.info())  # in the device's precision and batch
    original = variants.finished(read_onnx(folder.require(folder.original_onnx, "search")))
    pruned = variants.finished(read_onnx(folder.require(folder.model_onnx, "export")))
    predicted_us, reference_us = predictions_us(session)
    found = compare(session.device, original, pruned, protocol, predicted_us, progress, reference_us=reference_us)
    write_json(folder.comparison, found)


def predictions_us(session: Session) -> tuple[float, float] | tuple[None, None]:
    """What the table says of the pruned network, and what the original took when the table was measured.

    Nothing without a table, or with one of another device.
    """
    from amc_mobile.profile.predict import original_us, predict_us

    table = session.table()
    if table is None or session.fine_grained or table.device.key() != session.device.info().key():
        return None, None
    network = session.traced.network
    return predict_us(table, network, session.policy().kept), original_us(table, network)


def report(session: Session, progress: Progress) -> None:
    """summary.json, and report.html, report.md, report.json from the folder's files."""
    from amc_mobile.cli.summary import summarise
    from amc_mobile.report.write import write_report

    write_json(session.folder.summary, summarise(session.folder, session.config))
    write_report(session.folder)


def _uniform(session: Session) -> Policy | None:
    """The opponent that gives every group the same share, if it took part in the search."""
    opponents: list[dict[str, Any]] = read_json(session.folder.search)["opponents"]
    return next((Policy(tuple(trial["kept"])) for trial in opponents if trial["agent"] == "uniform"), None)


def _shares(score: Score) -> dict[str, float]:
    return {"top1": score.top1, "top5": score.top5}

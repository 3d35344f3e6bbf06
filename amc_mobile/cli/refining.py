"""Refines the winner of a search: policies near it are judged as they will be repaired, and the best of them ships."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amc_mobile.cli.budgets import budgets, search_settings, tables
from amc_mobile.cli.console import note
from amc_mobile.runs import RunFolder, read_json, read_trials, write_json
from amc_mobile.trials import Refinement
from amc_mobile.types import Policy

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

    from amc_mobile.cli.session import Session
    from amc_mobile.device.protocol import Progress
    from amc_mobile.prune.pruner import Pruner
    from amc_mobile.prune.refresh import Refresher

_IMAGES = 400  # from which each policy is refreshed
_FEWEST = 20
_POINTS = 0.5  # of prune.points_per_image


def refine(session: Session, progress: Progress) -> None:
    """refined.json: the policy that ships, or why it is that of search.json. Nothing is done twice for one search."""
    folder, searched = session.folder, session.folder.search_identity()
    if is_refined(folder):
        return
    refresher, reason = _refresher(session)
    best = Policy(tuple(read_json(folder.search)["best"]["kept"]))
    if refresher is not None and not _tuned(refresher, session.pruner, best):
        refresher, reason = None, "a quick refresh does not bring it nearer to the original"
    if refresher is None:
        note(f"    refine  the winner is not refined: {reason}")
        write_json(folder.refined, Refinement(searched, reason))
        return
    _search(session, RefreshingPruner(session.pruner, refresher), searched, progress)


def is_refined(folder: RunFolder) -> bool:
    """Whether refined.json is about the folder's present search."""
    return _stored(folder).get("searched") == folder.search_identity()


def refined(folder: RunFolder) -> Policy | None:
    """The refined policy of the folder's present search, if there is one."""
    best = _stored(folder)["best"] if is_refined(folder) else None
    return None if best is None else Policy(tuple(best["kept"]))


def leftovers(root: Path) -> tuple[Path, ...]:
    """What refining may have put into a folder of its own."""
    return tuple(sorted(RunFolder(root).refining.glob("*")))


class RefreshingPruner:
    """From a policy to the pruned graph, refreshed by one walk."""

    def __init__(self, pruner: Pruner, refresher: Refresher) -> None:
        self._pruner, self._refresher = pruner, refresher

    def prune(self, policy: Policy) -> onnx.ModelProto:
        """The smaller graph; as the search repaired it where the walk does not bring it nearer to the original."""
        channels, weights = self._pruner.channels(policy), self._pruner.weights(policy)
        fresh = self._refresher.weights(channels, weights or {})
        return self._pruner.slice(channels, weights if fresh is None else fresh)


def _search(session: Session, pruner: RefreshingPruner, searched: str, progress: Progress) -> None:
    from amc_mobile.search.evaluator import PrunedEvaluator
    from amc_mobile.search.refine import from_trials
    from amc_mobile.search.run import search
    from amc_mobile.search.why import read_curves

    folder, config = session.folder, session.config
    evaluations = config.refinements
    inner = _folder(folder, searched)
    found = search(
        session.network,
        tables(session),
        PrunedEvaluator(pruner, session.evaluator("search"), config.search.reward),
        search_settings(config).model_copy(update={"evaluations": evaluations}),
        budgets(session),
        seed=config.seed,
        folder=inner,
        progress=progress,
        context={"model": session.model_sha256, "searched": searched},
        agent=from_trials(read_trials(folder.trials), read_curves(folder.sensitivity), evaluations),
    )
    first = read_trials(inner.trials)[0]
    write_json(folder.refined, Refinement(searched, "", first, found.best, found.evaluations))


def _folder(folder: RunFolder, searched: str) -> RunFolder:
    """Where the trials are written; those of another search are removed."""
    inner = RunFolder(folder.refining).create()
    begun = read_json(inner.checkpoint)["settings"] if inner.checkpoint.is_file() else {}
    if begun.get("searched") != searched:
        for path in leftovers(folder.root):
            path.unlink()
    return inner


def _refresher(session: Session) -> tuple[Refresher | None, str]:
    """What refreshes policies on some of the calibration images, or why there is none."""
    from amc_mobile.prune.refresh import Refresher

    settings, split = session.config.prune, session.splits.calibration
    if len(split) < _FEWEST:
        return None, f"{len(split)} calibration images are too few"
    images = split.shuffled(session.config.seed).tensors(session.preprocessing)
    refresher = Refresher(
        session.traced,
        images[:_IMAGES],
        points_per_image=max(1, round(_POINTS * settings.points_per_image)),
        ridge=settings.ridge,
        seed=session.config.seed,
        threads=session.threads,
        distance=session.task.distance,
    )
    return refresher, ""


def _tuned(refresher: Refresher, pruner: Pruner, best: Policy) -> bool:
    """Whether the refresher is of use for the winner; its ridge is then the winner's best."""
    return refresher.tune(pruner.channels(best), pruner.weights(best) or {})


def _stored(folder: RunFolder) -> dict[str, Any]:
    """What refined.json says; nothing if it is not there, or of another version. Raises: RunFolderError if damaged."""
    stored = read_json(folder.refined) if folder.refined.is_file() else None
    return stored if isinstance(stored, dict) and {"searched", "best"} <= stored.keys() else {}

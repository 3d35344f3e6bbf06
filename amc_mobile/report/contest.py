"""The search in sentences: who competed, with how many evaluations, who won, and what was guaranteed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from amc_mobile.config import RunConfig
from amc_mobile.report import wording as say
from amc_mobile.report.searching import SearchFacts
from amc_mobile.trials import Refinement

_PHASES: Final = {
    "opponent": "a policy that needs no learning",
    "warmup": "an episode of the warm-up",
    "explore": "an episode with noise around the actor",
    "local": "a random change to the best policy so far",
    "model": "the best policy by a model of what was seen so far",
    "final": "the trained actor without noise",
}


def contest(search: SearchFacts, config: RunConfig | None, refined: Refinement | None = None) -> str:
    """Who competed, who won, and how the winner was refined."""
    names = ", ".join(f"{row.agent} {row.trials:,}" for row in search.agents)
    agents = f"{len(search.agents)} agents" if len(search.agents) > 1 else "One agent"
    parts = [f"{agents} competed, with so many policies each: {names}."]
    if search.evaluations is not None:
        parts.append(
            f"In all {search.evaluations:,} different networks were evaluated, those in which a single group was "
            "pruned to learn what it loses alone included."
        )
    stopped = sum(not point.exact for point in search.points)
    if stopped:
        parts.append(
            f"Given up once it was certain that they could not win: {stopped:,}. Their scores are estimates on fewer "
            "images and stand outside the Pareto front."
        )
    how = _PHASES.get(search.phase, search.phase)
    if search.by_hand:
        parts.append(f"The widths that ship are of trial {search.chosen.trial}, chosen by hand: {search.agent}, {how}.")
    else:
        parts.append(f"The winner is trial {search.chosen.trial}, by “{search.agent}”: {how}.")
    if config is not None and config.search.agent != "auto":
        parts.append(f"Only the agent “{config.search.agent}” was asked.")
    if refined is not None and not search.by_hand:
        parts += _refinement(refined)
    return " ".join(parts)


def _refinement(refined: Refinement) -> Iterator[str]:
    """What came of judging the best policies as they will be repaired."""
    if refined.skipped:
        yield f"The winner was not refined: {refined.skipped}."
    elif refined.first is not None and refined.best is not None:
        yield (
            f"Then {refined.evaluations:,} of the best policies and their neighbours were judged as they will be "
            f"repaired, by a quick form of it: the winner's reward is {refined.first.reward:.4f} there, that of the "
            f"policy that ships {refined.best.reward:.4f}."
        )


def guarantee(search: SearchFacts | None) -> tuple[str, ...]:
    """Under the accuracy-guaranteed protocol, what had to be kept and what was."""
    if search is None or search.least_accuracy is None:
        return ()
    row = next((row for row in search.agents if row.chosen), None)
    measure = search.accuracy_name
    kept = "" if row is None else say.percent(getattr(row, measure))
    name = say.ACCURACY_NAMES[measure]
    return (
        f"Accuracy guaranteed: the least {say.METRIC_NAMES[search.metric]} with at least "
        f"{say.percent(search.least_accuracy)} {name} on the {search.images:,} search images; the result has {kept}.",
    )

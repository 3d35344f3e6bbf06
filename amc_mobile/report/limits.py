"""Whether the limits of a run held: every budget against what came out, predicted and measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from amc_mobile.cost.price import price
from amc_mobile.report.sources import Sources
from amc_mobile.trials import Trial
from amc_mobile.types import Budget, Metric, Policy

Standing = Literal["held", "exceeded", "predicted", "emulated"]


@dataclass(frozen=True, slots=True)
class BudgetFacts:
    """The limit against what came out. `excess` is outcome / limit - 1: negative when there is room left.

    A latency limit is a share of the original's time; once that was measured again, all times are on that clock.
    """

    metric: Metric
    limit: float
    full: float | None  # the original's cost in the same metric
    share: float | None  # asked: limit / full
    predicted: float | None
    measured: float | None
    excess: float | None
    standing: Standing
    device: str = ""  # a further device, by its name
    precision: str = "fp32"  # in which a latency was predicted and measured


def predicted_us(sources: Sources, kept: tuple[int, ...] | None) -> float | None:
    """What the latency table says these widths cost, or None without a table or widths."""
    if sources.table is None or kept is None:
        return None
    return float(sources.table.latency_us(sources.network, kept))


def budget_facts(sources: Sources) -> tuple[BudgetFacts, ...]:
    """Every limit and how the result stands to it, the first one first; none before a search."""
    search = sources.search
    return () if search is None else tuple(_standing_of(sources, each) for each in (search.budget, *search.further))


def _standing_of(sources: Sources, budget: Budget) -> BudgetFacts:
    metric, limit = budget.metric, budget.limit
    own = metric == "latency_us" and not budget.device
    comparison = sources.comparison if own else None
    if comparison is not None and sources.table is not None and sources.table.device.key() != comparison.device.key():
        comparison = None  # the budget is of the table's device, which is not the one that was timed
    full = _cost(sources, budget, sources.network.full().kept)
    predicted = _cost(sources, budget, sources.kept)
    if comparison is not None and comparison.predicted_us is not None:
        predicted = comparison.predicted_us  # what was promised when it was measured
    measured = None
    if comparison is not None and not comparison.device.emulated:
        measured = comparison.latency_after_us
    if measured is not None and comparison is not None and comparison.drift is not None:
        limit, full = limit * comparison.drift, comparison.latency_before_us
    outcome = predicted if measured is None else measured
    excess = None if outcome is None else outcome / limit - 1
    return BudgetFacts(
        metric=metric,
        limit=limit,
        full=full,
        share=_asked_share(sources, budget, limit, full),
        predicted=predicted,
        measured=measured,
        excess=excess,
        standing=_standing(metric, excess, measured, emulated=comparison is not None and comparison.device.emulated),
        device=budget.device,
        precision=sources.table.device.precision if own and sources.table is not None else "fp32",
    )


def _cost(sources: Sources, budget: Budget, kept: tuple[int, ...] | None) -> float | None:
    """The price of these widths: by formula, by the table for latency, for further devices as the search priced it."""
    if kept is None:
        return None
    if budget.device:
        known = [trial.cost for trial in _decided(sources) if trial.kept == kept]
        return budget.cost_in(known[0]) if known else None
    if budget.metric == "latency_us":
        return predicted_us(sources, kept)
    return float(getattr(price(sources.network, Policy(kept)), budget.metric))


def _decided(sources: Sources) -> list[Trial]:
    """The networks that may ship: the refined winner, the winner, and those that can be chosen by hand."""
    refined = None if sources.refined is None else sources.refined.best
    winner = None if sources.search is None else sources.search.best
    return [trial for trial in (refined, winner, *sources.trials) if trial is not None]


def _asked_share(sources: Sources, budget: Budget, limit: float, full: float | None) -> float | None:
    """The fraction as the user wrote it, else what the limit works out to."""
    if sources.config is not None and not budget.device:
        asked = sources.config.budget.limits().get(budget.metric)
        if asked is not None and asked.relative:
            return asked.value
    return limit / full if full else None


def _standing(metric: Metric, excess: float | None, measured: float | None, *, emulated: bool) -> Standing:
    if metric == "latency_us" and measured is None:
        return "emulated" if emulated else "predicted"
    return "held" if excess is not None and excess <= 0 else "exceeded"

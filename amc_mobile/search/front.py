"""The Pareto front of a search: the trials that no other trial beats in accuracy and in cost at once.

One front for every cost. A trial that lost its race was scored on a part of the images only: that is an estimate, and
stays outside. pareto.json is {"schema", "reward", "metrics": {metric: [trial, ...], cheapest first}, "points"}.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from amc_mobile.search.rewards import REWARDS
from amc_mobile.trials import Trial
from amc_mobile.types import Cost, RewardName, cost_key

SCHEMA = 1
_OWN = ("latency_us", "macs", "params", "bytes", "memory_bytes")

PriceOf = Callable[[Cost], float]


@dataclass(frozen=True, slots=True)
class Point:
    """One trial of the front. `accuracy` is what the reward is about: a share, or minus the divergence (nats).

    `top1` is None for a detector.
    """

    trial: int
    agent: str
    phase: str
    accuracy: float
    top1: float | None
    cost: Cost
    kept: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Front:
    """All fronts of one search. `metrics` names trials by index, the cheapest first; `points` are in trial order."""

    schema: int
    reward: RewardName
    metrics: Mapping[str, tuple[int, ...]]
    points: tuple[Point, ...]


def front(trials: Sequence[Trial], reward: RewardName) -> Front:
    """The trials that are the best of all that cost no more, for every cost that all trials have."""
    exact = exactly_scored(trials)
    metrics = {
        name: tuple(trial.index for trial in staircase(exact, price, reward)) for name, price in prices(exact).items()
    }
    chosen = {index for indices in metrics.values() for index in indices}
    return Front(SCHEMA, reward, metrics, tuple(_point(trial, reward) for trial in exact if trial.index in chosen))


def exactly_scored(trials: Sequence[Trial]) -> tuple[Trial, ...]:
    """Those that were scored on all search images."""
    images = max((trial.score.images for trial in trials), default=0)
    return tuple(trial for trial in trials if trial.score.images == images)


def staircase(trials: Sequence[Trial], price: PriceOf, reward: RewardName) -> tuple[Trial, ...]:
    """The trials that are better than all cheaper ones, cheapest first. Of equals the smaller divergence, the first."""
    pay = REWARDS[reward]
    steps: list[Trial] = []
    for trial in sorted(trials, key=lambda one: (price(one.cost), -pay(one.score), one.score.kl, one.index)):
        if not steps or pay(trial.score) > pay(steps[-1].score):
            steps.append(trial)
    return tuple(steps)


def prices(trials: Sequence[Trial]) -> dict[str, PriceOf]:
    """How each cost that all of these trials have is read off. A latency elsewhere is `latency_us@device`."""
    found: dict[str, PriceOf] = {name: _own(name) for name in _OWN if all(_has(trial.cost, name) for trial in trials)}
    devices = dict.fromkeys(device for trial in trials for device in trial.cost.elsewhere_us)
    for device in devices:
        if all(device in trial.cost.elsewhere_us for trial in trials):
            found[cost_key("latency_us", device)] = _elsewhere(device)
    return found if trials else {}


def _has(cost: Cost, name: str) -> bool:
    return getattr(cost, name) is not None and (name != "memory_bytes" or cost.memory_bytes > 0)


def _own(name: str) -> PriceOf:
    return lambda cost: float(getattr(cost, name))


def _elsewhere(device: str) -> PriceOf:
    return lambda cost: cost.elsewhere_us[device]


def _point(trial: Trial, reward: RewardName) -> Point:
    score = trial.score
    accuracy = -score.kl if reward == "kl" else score.accuracy(reward)
    return Point(trial.index, trial.agent, trial.phase, accuracy, score.top1, trial.cost, trial.kept)

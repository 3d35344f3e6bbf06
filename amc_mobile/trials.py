"""What a search tried and what it found: the lines of trials.jsonl, and search.json."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from amc_mobile.types import Budget, Cost, RewardName, Score

Phase = Literal[
    "opponent",  # needs no learning
    "warmup",  # the agent acts by constant noise
    "explore",  # the agent acts with decaying noise
    "local",  # around the best policy so far
    "model",  # the best policy by a model of what was seen so far
    "final",  # the agent without noise
]


@dataclass(frozen=True, slots=True)
class Race:
    """What a network must reach to be of interest: an evaluation may stop once its `reward` must stay below `to_beat`.

    Rewards are those of search/rewards.py: minus the error, or minus the divergence.
    """

    reward: RewardName
    to_beat: float


@dataclass(frozen=True, slots=True)
class Trial:
    """One evaluated policy: a line of trials.jsonl. `seconds` is the only field that differs when a run is repeated."""

    index: int
    agent: str  # "ddpg", "uniform", "sensitivity", ...
    phase: Phase
    kept: tuple[int, ...]
    cost: Cost
    score: Score
    reward: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Refinement:
    """refined.json: the winner of a search, improved as it will be repaired. Its rewards are of refreshed networks."""

    searched: str  # the identity of the search.json that it belongs to
    skipped: str = ""  # why nothing was refined
    first: Trial | None = None  # the winner of the search, refreshed
    best: Trial | None = None
    evaluations: int = 0


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The winner, and what it was chosen from.

    `budget` is the first limit, `further` are those that hold at the same time. Under the accuracy-guaranteed protocol
    `budget` names the cost that was minimised, and `least_accuracy` the search accuracy that the winner had to keep.
    """

    budget: Budget
    best: Trial
    opponents: tuple[Trial, ...]  # the best trial of every other agent
    episodes: int
    further: tuple[Budget, ...] = ()
    least_accuracy: float | None = None
    evaluations: int = 0  # different networks that were evaluated, sensitivities included

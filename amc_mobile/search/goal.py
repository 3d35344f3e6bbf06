"""What a search is for: how a pruned network is paid, and which of all trials is the result.

Two protocols (He et al. 2018, sec. 3.4):
* resource-constrained: the walls hold the budget, the reward is R_err = -error, the best reward wins;
* accuracy-guaranteed: the reward is R = -error * log(cost), that is R_FLOPs, R_Param, or the same with latency or any
  other cost; the cheapest network wins whose accuracy on the search images is at least the stated one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from amc_mobile.cost.price import CostFunction
from amc_mobile.search.budget import Walls
from amc_mobile.search.journal import Kept
from amc_mobile.search.rewards import REWARDS
from amc_mobile.trials import Trial
from amc_mobile.types import RewardName, Score

_SHRINK = 0.96  # of the cost of the best network: where the next one is looked for, accuracy-guaranteed


class Goal(Protocol):
    """Pays trials and ranks them."""

    def reward(self, score: Score, kept: Kept) -> float:
        """What the agent is paid for a network of this score and these widths."""
        ...

    def merit(self, trial: Trial) -> tuple[float, ...]:
        """What trials are ranked by; the highest is the result."""
        ...

    def enough(self, score: Score) -> bool:
        """Whether a network of this score may be the result."""
        ...

    def beyond(self, walls: Walls, cost: float) -> Walls:
        """Where to look for something better than the best so far, which costs `cost`."""
        ...


@dataclass(frozen=True, slots=True)
class WithinBudget:
    """Resource-constrained: the best reward; of equal rewards the smaller divergence from the original."""

    name: RewardName

    def reward(self, score: Score, kept: Kept) -> float:
        """R_err = -error, or minus the divergence."""
        return REWARDS[self.name](score)

    def merit(self, trial: Trial) -> tuple[float, ...]:
        """Reward, then divergence."""
        return trial.reward, -trial.score.kl

    def enough(self, score: Score) -> bool:
        """Any: the walls hold the budget."""
        return True

    def beyond(self, walls: Walls, cost: float) -> Walls:
        """At the same budget."""
        return walls


@dataclass(frozen=True, slots=True)
class WithinLoss:
    """Accuracy-guaranteed: the least cost among the networks that keep `least_accuracy`, else the best accuracy.

    `cost_of` prices the widths of all groups in the unit of the first budget's metric, whatever else is limited.
    """

    name: RewardName
    least_accuracy: float
    cost_of: CostFunction

    def reward(self, score: Score, kept: Kept) -> float:
        """R = -error * log(cost), with the divergence as the error if the agent is paid by that."""
        return REWARDS[self.name](score) * math.log(max(self.cost_of(kept), math.e))

    def merit(self, trial: Trial) -> tuple[float, ...]:
        """Whether it is accurate enough, then how cheap it is (how accurate, if it is not), then divergence."""
        enough = self.enough(trial.score)
        rank = -self.cost_of(trial.kept) if enough else trial.score.accuracy(self.name)
        return float(enough), rank, -trial.score.kl

    def enough(self, score: Score) -> bool:
        """Whether it keeps the stated accuracy."""
        return score.accuracy(self.name) >= self.least_accuracy

    def beyond(self, walls: Walls, cost: float) -> Walls:
        """A little cheaper."""
        return walls.within(_SHRINK * cost)

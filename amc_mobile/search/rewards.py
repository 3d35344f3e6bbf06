"""What the agent is paid: one number for the score of a pruned network, always higher for a better one.

Top-1 and top-5 are the paper's R_err = -error (He et al. 2018, sec. 3.4); the budget is held by the walls, not by the
reward. `kl` is minus the divergence from the original network's outputs: smoother than the accuracy of a few hundred
images, and it needs no labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

from amc_mobile.types import Score

Reward = Callable[[Score], float]
RewardName = Literal["top1", "top5", "kl"]


def top1(score: Score) -> float:
    """Minus the top-1 error, in [-1, 0]."""
    return score.top1 - 1.0


def top5(score: Score) -> float:
    """Minus the top-5 error, in [-1, 0]."""
    return score.top5 - 1.0


def kl(score: Score) -> float:
    """Minus the mean divergence from the original, nats; 0 is the original itself."""
    return -score.kl


REWARDS: Mapping[RewardName, Reward] = MappingProxyType({"top1": top1, "top5": top5, "kl": kl})

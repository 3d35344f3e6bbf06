"""What the agent is paid: one number for the score of a pruned network, always higher for a better one.

Top-1 and top-5 are the paper's R_err = -error (He et al. 2018, sec. 3.4); the budget is held by the walls, not by the
reward. For a detector, `map` and `map50` are the same of its mean average precision. `kl` is minus the divergence from
the original network's outputs: smoother than the accuracy of a few hundred images, and it needs no labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from amc_mobile.types import AccuracyName, RewardName, Score

Reward = Callable[[Score], float]


def minus_error(name: AccuracyName, score: Score) -> float:
    """Minus the error that an accuracy leaves, in [-1, 0]."""
    return score.accuracy(name) - 1.0


def kl(score: Score) -> float:
    """Minus the mean divergence from the original, nats; 0 is the original itself."""
    return -score.kl


_ACCURACIES: tuple[AccuracyName, ...] = ("top1", "top5", "map", "map50")
REWARDS: Mapping[RewardName, Reward] = MappingProxyType(
    {name: partial(minus_error, name) for name in _ACCURACIES} | {"kl": kl}
)

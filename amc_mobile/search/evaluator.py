"""How good a policy is: prune the network, run it on the search images, no fine-tuning (He et al. 2018, sec. 3.3).

Float networks are run, also where the budget is a latency in int8. To quantise a candidate and to calibrate it on
itself costs more than to run it. `benchmarks/int8_accuracy.py` asks whether random policies come in the same order by
either.
"""

from __future__ import annotations

from typing import Protocol

import onnx

from amc_mobile.models.evaluation import Answered
from amc_mobile.trials import Race
from amc_mobile.types import Policy, RewardName, Score


class PolicyEvaluator(Protocol):
    """Something that scores policies. Equal policies get equal scores: a resumed search relies on it."""

    def evaluate(self, policy: Policy, to_beat: float | None = None) -> Score:
        """The score of the network pruned by the policy.

        With a reward `to_beat` it may be that of a part of the images, if those show that the policy's reward will be
        below; it is then below itself. Equal policies with equal `to_beat` get equal scores.
        """
        ...


class Prunes(Protocol):
    """Makes the pruned network of a policy (amc_mobile.prune.pruner.Pruner)."""

    def prune(self, policy: Policy) -> onnx.ModelProto:
        """The physically smaller graph."""
        ...


class Runs(Protocol):
    """Runs a network on the search images (amc_mobile.models.evaluation)."""

    def outcomes(self, model: onnx.ModelProto, race: Race | None = None) -> Answered:
        """What it answers to each image, at least as far as `race` needs it."""
        ...


class PrunedEvaluator:
    """Prunes, runs, and remembers what became of each image: a policy met twice is run once.

    Only a policy that was given up early is run again, in full, when it is met by a weaker opponent. Its score is the
    same whether it was remembered or not.
    """

    def __init__(self, pruner: Prunes, evaluator: Runs, reward: RewardName = "top1") -> None:
        """`reward` is what `to_beat` is about."""
        self._pruner = pruner
        self._evaluator = evaluator
        self._reward: RewardName = reward
        self._known: dict[tuple[int, ...], Answered] = {}

    def evaluate(self, policy: Policy, to_beat: float | None = None) -> Score:
        """The score of the network pruned by the policy, as PolicyEvaluator says."""
        race = None if to_beat is None else Race(self._reward, to_beat)
        known = self._known.get(policy.kept)
        score = known.score(race) if known is not None else None
        if score is None:
            again = known is not None
            outcomes = self._evaluator.outcomes(self._pruner.prune(policy), None if again else race)
            self._known[policy.kept] = outcomes
            score = outcomes.score(race)
        if score is None:
            raise ValueError(f"the images that were run do not decide {race}")
        return score

"""The memo saves work and changes nothing."""

from __future__ import annotations

import numpy as np
import onnx

from amc_mobile.models.outcomes import Outcomes
from amc_mobile.search.evaluator import PrunedEvaluator
from amc_mobile.trials import Race
from amc_mobile.types import Policy, Score

IMAGES = 64


class Counting:
    """Prunes to a model whose name is its widths; of its 64 images the first `widths` are right, the others wrong."""

    def __init__(self) -> None:
        self.pruned: list[Policy] = []
        self.run: list[int] = []

    def prune(self, policy: Policy) -> onnx.ModelProto:
        self.pruned.append(policy)
        return onnx.ModelProto(producer_name=",".join(map(str, policy.kept)))

    def outcomes(self, model: onnx.ModelProto, race: Race | None = None) -> Outcomes:
        right = sum(map(int, model.producer_name.split(",")))
        full = Outcomes(np.where(np.arange(IMAGES) < IMAGES - right, 9, 0), np.full(IMAGES, 1 / right), IMAGES)
        score = full.score(race)
        assert score is not None
        self.run.append(score.images)
        return Outcomes(full.ranks[: score.images], full.divergences[: score.images], IMAGES)

    def exact(self, policy: Policy, race: Race | None = None) -> Score:
        score = self.outcomes(self.prune(policy)).score(race)
        assert score is not None
        return score


def test_a_policy_met_twice_is_evaluated_once() -> None:
    counting = Counting()
    evaluator = PrunedEvaluator(counting, counting)
    wide, narrow = Policy((3, 20)), Policy((3, 10))
    first = [evaluator.evaluate(policy) for policy in (wide, narrow, wide, narrow)]
    assert counting.pruned == [wide, narrow]
    assert first[:2] == first[2:] == [counting.exact(policy) for policy in (wide, narrow)]
    assert [score.images for score in first] == [IMAGES] * 4


def test_what_was_given_up_is_run_again_only_for_a_weaker_opponent() -> None:
    counting = Counting()
    evaluator = PrunedEvaluator(counting, counting)
    policy = Policy((16, 16))  # reward -0.5
    meetings = [-0.25, -0.125, -0.4, -0.45, -0.3, None, -0.6, -0.25]
    scores = [evaluator.evaluate(policy, to_beat) for to_beat in meetings]
    assert counting.run == [18, IMAGES]  # at -0.4 it is run in full, and never again
    races = [None if to_beat is None else Race("top1", to_beat) for to_beat in meetings]
    assert scores == [Counting().exact(policy, race) for race in races]
    assert all(score.top1 - 1.0 < to_beat for score, to_beat in zip(scores, meetings, strict=True) if score.images < 64)

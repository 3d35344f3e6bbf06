"""The memo saves work and changes nothing."""

from __future__ import annotations

import onnx

from amc_mobile.search.evaluator import PrunedEvaluator
from amc_mobile.types import Policy, Score


class Counting:
    """Prunes to a model whose name is its widths, and scores a model by them."""

    def __init__(self) -> None:
        self.pruned: list[Policy] = []

    def prune(self, policy: Policy) -> onnx.ModelProto:
        self.pruned.append(policy)
        return onnx.ModelProto(producer_name=",".join(map(str, policy.kept)))

    def score(self, model: onnx.ModelProto) -> Score:
        widths = sum(map(int, model.producer_name.split(",")))
        return Score(top1=widths / 100, top5=1.0, kl=1 / widths, images=3)


def test_a_policy_met_twice_is_evaluated_once() -> None:
    counting = Counting()
    evaluator = PrunedEvaluator(counting, counting)
    wide, narrow = Policy((3, 20)), Policy((3, 10))
    first = [evaluator.evaluate(policy) for policy in (wide, narrow, wide, narrow)]
    assert counting.pruned == [wide, narrow]
    assert first[:2] == first[2:] == [counting.score(counting.prune(policy)) for policy in (wide, narrow)]

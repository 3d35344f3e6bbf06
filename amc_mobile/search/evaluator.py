"""How good a policy is: prune the network, run it on the search images, no fine-tuning (He et al. 2018, sec. 3.3)."""

from __future__ import annotations

from typing import Protocol

import onnx

from amc_mobile.types import Policy, Score


class PolicyEvaluator(Protocol):
    """Something that scores policies. Equal policies get equal scores: a resumed search relies on it."""

    def evaluate(self, policy: Policy) -> Score:
        """The score of the network pruned by the policy."""
        ...


class Prunes(Protocol):
    """Makes the pruned network of a policy (amc_mobile.prune.pruner.Pruner)."""

    def prune(self, policy: Policy) -> onnx.ModelProto:
        """The physically smaller graph."""
        ...


class Scores(Protocol):
    """Runs a network on the search images (amc_mobile.models.evaluation.OnnxEvaluator)."""

    def score(self, model: onnx.ModelProto) -> Score:
        """Accuracy on the images and divergence from the original."""
        ...


class PrunedEvaluator:
    """Prunes, runs, and remembers: a policy met twice is evaluated once."""

    def __init__(self, pruner: Prunes, onnx_evaluator: Scores) -> None:
        self._pruner = pruner
        self._onnx_evaluator = onnx_evaluator
        self._known: dict[tuple[int, ...], Score] = {}

    def evaluate(self, policy: Policy) -> Score:
        """The score of the network pruned by the policy."""
        if policy.kept not in self._known:
            self._known[policy.kept] = self._onnx_evaluator.score(self._pruner.prune(policy))
        return self._known[policy.kept]

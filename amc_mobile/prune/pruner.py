"""From a policy to the pruned network, in milliseconds."""

from __future__ import annotations

import onnx

from amc_mobile.graph.traced import Channels, TracedGraph, Weights
from amc_mobile.prune.importance import Ranking, keep
from amc_mobile.prune.reconstruct import Reconstructor
from amc_mobile.types import Policy


class Pruner:
    """Makes what the search evaluates and what ships: the most important channels, the rest refitted if wanted."""

    def __init__(self, traced: TracedGraph, ranking: Ranking, reconstructor: Reconstructor | None = None) -> None:
        self._traced = traced
        self._ranking = ranking
        self._reconstructor = reconstructor

    def channels(self, policy: Policy) -> Channels:
        """The channels that the policy keeps of every group."""
        return keep(policy, self._ranking)

    def prune(self, policy: Policy) -> onnx.ModelProto:
        """The physically smaller network. Raises: GraphError if the policy does not fit the network."""
        return self.slice(self.channels(policy), self.weights(policy))

    def weights(self, policy: Policy) -> Weights | None:
        """The repaired weights, by initialiser name; None without a repair."""
        return None if self._reconstructor is None else self._reconstructor.weights(self.channels(policy))

    def slice(self, channels: Channels, weights: Weights | None) -> onnx.ModelProto:
        """The network with these channels and weights."""
        return self._traced.slice(channels, weights)

"""A moving average of a network's weights, which at the end of a training is often better than its last weights."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn


class WeightAverage:
    """`network` is a copy in eval mode whose weights and batch norm statistics follow the module's.

    After t steps the average keeps min(decay, (1 + t) / (10 + t)) of itself, so that the first steps, far from good
    weights, are forgotten, and a short training averages about its last tenth.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(module).eval().requires_grad_(False)
        self._decay = decay
        self._steps = 0

    def update(self, module: nn.Module) -> None:
        """Takes note of the module after a step. What is no float (counters of batches) is copied."""
        kept = min(self._decay, (1 + self._steps) / (10 + self._steps))
        self._steps += 1
        averages, latest = [], []
        with torch.no_grad():
            for mine, theirs in zip(_tensors(self.network), _tensors(module), strict=True):
                if mine.is_floating_point():
                    averages.append(mine)
                    latest.append(theirs.detach())
                else:
                    mine.copy_(theirs)
            torch._foreach_lerp_(averages, latest, 1 - kept)

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs to go on."""
        return {"network": self.network.state_dict(), "steps": self._steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from what `state_dict` gave."""
        self.network.load_state_dict(state["network"])
        self._steps = int(state["steps"])


def _tensors(module: nn.Module) -> list[torch.Tensor]:
    return [*module.parameters(), *module.buffers()]

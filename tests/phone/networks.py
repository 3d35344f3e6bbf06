"""A network that an emulated processor can run some hundred times in a test."""

from __future__ import annotations

import torch
from torch import nn


class Tiny(nn.Module):
    """Images (N, 1, 32, 32) to logits (N, 10) with a quarter of a million MACs; two groups can be pruned."""

    input_shape = (1, 32, 32)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(_unit(1, 8), _unit(8, 16), _unit(16, 16, stride=1))
        self.classifier = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The classes' logits."""
        return self.classifier(self.features(x).mean((2, 3)))


def _unit(before: int, after: int, stride: int = 2) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, stride, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU6())

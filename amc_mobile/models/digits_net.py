"""A small network for 8x8 handwritten digits, enlarged to 32x32: the subject of `amc demo`."""

from __future__ import annotations

import torch
from torch import nn

from amc_mobile.models.initialise import initialise


class DigitsNet(nn.Module):
    """A little of everything that pruning must cope with, in one small net.

    A dense stem, depthwise-separable blocks, residual blocks, an inverted bottleneck and a linear head: ten prunable
    groups. Input (N, 1, 32, 32), output (N, classes).
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(
            _conv(1, 32, 3),
            Residual(32, 64),
            Separable(32, 96, stride=2),
            Residual(96, 96),
            Separable(96, 128, stride=2),
            Residual(128, 128),
            InvertedResidual(128, 256),
            Separable(128, 160, stride=2),
            Residual(160, 128),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.hidden = nn.Linear(160, 64)
        self.classifier = nn.Linear(64, classes)
        initialise(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (N, classes) of images (N, 1, 32, 32)."""
        x = self.pool(self.features(x)).flatten(1)
        logits: torch.Tensor = self.classifier(torch.relu(self.hidden(x)))
        return logits


class Separable(nn.Module):
    """A depthwise 3x3 and a pointwise convolution: (N, before, H, W) -> (N, after, H / stride, W / stride)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.depthwise = _conv(before, before, 3, stride, groups=before)
        self.pointwise = _conv(before, after, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See the class."""
        out: torch.Tensor = self.pointwise(self.depthwise(x))
        return out


class Residual(nn.Module):
    """Two 3x3 convolutions with `inner` channels between them, added to their input (N, channels, H, W)."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.conv1 = _conv(channels, inner, 3)
        self.conv2 = _linear_conv(inner, channels, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return torch.relu(x + self.conv2(self.conv1(x)))


class InvertedResidual(nn.Module):
    """Pointwise up to `inner` channels, depthwise 3x3, pointwise down, added to the input (N, channels, H, W)."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.expand = _conv(channels, inner, 1)
        self.depthwise = _conv(inner, inner, 3, groups=inner)
        self.project = _linear_conv(inner, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See the class."""
        out: torch.Tensor = x + self.project(self.depthwise(self.expand(x)))
        return out


def _conv(before: int, after: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(*_linear_conv(before, after, kernel, stride, groups), nn.ReLU())


def _linear_conv(before: int, after: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(after)
    )

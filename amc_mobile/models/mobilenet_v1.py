"""MobileNet-V1 of any width (Howard et al., 2017), with the key names of the usual PyTorch ports: model.N..., fc."""

from __future__ import annotations

import torch
from torch import nn

from amc_mobile.models.initialise import initialise

_WIDTHS = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)  # stem, then 13 blocks
_STRIDES = (2, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)


class MobileNetV1(nn.Module):
    """A stem, 13 depthwise-separable blocks, global average pooling and one linear layer.

    `width` multiplies every channel count, rounded down as in the original. Input (N, 3, H, W), output (N, classes).
    """

    def __init__(self, width: float = 1.0, classes: int = 1000) -> None:
        super().__init__()
        channels = [int(width * count) for count in _WIDTHS]
        blocks = [_dense(3, channels[0], _STRIDES[0])]
        for before, after, stride in zip(channels, channels[1:], _STRIDES[1:], strict=False):
            blocks.append(_separable(before, after, stride))
        self.model = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1))
        self.fc = nn.Linear(channels[-1], classes)
        initialise(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (N, classes) of images (N, 3, H, W)."""
        logits: torch.Tensor = self.fc(self.model(x).flatten(1))
        return logits


def _dense(before: int, after: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU6())


def _separable(before: int, after: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, before, 3, stride, 1, groups=before, bias=False),
        nn.BatchNorm2d(before),
        nn.ReLU6(),
        nn.Conv2d(before, after, 1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU6(),
    )

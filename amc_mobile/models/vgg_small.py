"""A small VGG for grey 28x28 images (Simonyan and Zisserman, ICLR 2015, with batch normalisation)."""

from __future__ import annotations

import torch
from torch import nn

from amc_mobile.models.initialise import initialise

_WIDTHS = ((32, 32), (64, 64), (128, 128))  # of the convolutions before each max pooling


class VggSmall(nn.Module):
    """Three pairs of 3x3 convolutions, each pair followed by max pooling; a mean over what is left; one linear layer.

    Input (N, 1, 28, 28), output (N, classes).
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 1
        for pair in _WIDTHS:
            for after in pair:
                layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
                before = after
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(before, classes)
        initialise(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See the class."""
        logits: torch.Tensor = self.classifier(self.pool(self.features(x)).flatten(1))
        return logits

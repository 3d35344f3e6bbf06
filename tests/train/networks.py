"""A tiny network, images that it can learn, and the plainest training of it."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from amc_mobile.sections.finetune import FinetuneConfig

PLAIN = FinetuneConfig(
    epochs=4, learning_rate=0.05, batch_size=8, distillation=0.0, shift=0, ema=0.0, batch_norm="train"
)


class Tiny(nn.Module):
    """A convolution, a batch norm, dropout and a linear layer for (N, 1, 8, 8)."""

    input_shape = (1, 8, 8)

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv2d(1, 6, 3, bias=False), nn.BatchNorm2d(6)
        self.drop, self.fc = nn.Dropout(0.1), nn.Linear(6, classes)

    def forward(self, x):
        return self.fc(self.drop(torch.relu(self.norm(self.conv(x))).mean((2, 3))))


def stripes(count=64):
    """Images with vertical (0) or horizontal (1) stripes and a little noise."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, count)
    images = generator.normal(0, 0.3, (count, 1, 8, 8)).astype(np.float32)
    images[labels == 0] += np.tile([1.0, -1.0], 4).astype(np.float32)[None, None, None, :]
    images[labels == 1] += np.tile([1.0, -1.0], 4).astype(np.float32)[None, None, :, None]
    return images, labels


IMAGES, LABELS = stripes()


def accuracy(module):
    with torch.inference_mode():
        return float((module(torch.from_numpy(IMAGES)).argmax(1).numpy() == LABELS).mean())


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def ten_classes():
    """A network for the digits, as a user would name it: tests.train.networks:ten_classes."""
    return Tiny(10)

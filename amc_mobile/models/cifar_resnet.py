"""ResNets and plain nets for CIFAR-10: 6n+2 layers of 16, 32 and 64 channels (He et al., CVPR 2016, section 4.2)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from amc_mobile.models.initialise import initialise

_STAGES = (16, 32, 64)


class OptionAShortcut(nn.Module):
    """The shortcut without weights: every `stride`-th pixel, zeros for the channels that the branch adds.

    `pad_before` and `pad_after` count the zero channels on each side. They are plain attributes, because pruning the
    channels around the shortcut changes them.
    """

    def __init__(self, stride: int, pad_before: int, pad_after: int) -> None:
        super().__init__()
        self.stride = stride
        self.pad_before = pad_before
        self.pad_after = pad_after

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, pad_before + C + pad_after, H / stride, W / stride)."""
        return functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad_before, self.pad_after))

    def extra_repr(self) -> str:
        """The three numbers, for print(module)."""
        return f"stride={self.stride}, pad_before={self.pad_before}, pad_after={self.pad_after}"


class BasicBlock(nn.Module):
    """Two 3x3 convolutions; with `residual`, their input is added to their output."""

    def __init__(self, before: int, after: int, stride: int, residual: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.shortcut = _shortcut(before, after, stride) if residual else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, before, H, W) -> (N, after, H / stride, W / stride)."""
        out: torch.Tensor = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        if self.shortcut is not None:
            out = out + self.shortcut(x)
        return functional.relu(out)


class CifarResNet(nn.Module):
    """A stem, three stages of `blocks` basic blocks, global average pooling and one linear layer.

    `residual=False` is the plain net of the same depth. Input (N, 3, 32, 32), output (N, classes).
    """

    def __init__(self, blocks: int, residual: bool = True, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, _STAGES[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(_STAGES[0])
        self.layer1 = _stage(_STAGES[0], _STAGES[0], blocks, 1, residual)
        self.layer2 = _stage(_STAGES[0], _STAGES[1], blocks, 2, residual)
        self.layer3 = _stage(_STAGES[1], _STAGES[2], blocks, 2, residual)
        self.linear = nn.Linear(_STAGES[2], classes)
        initialise(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (N, classes) of images (N, 3, 32, 32)."""
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: torch.Tensor = self.linear(functional.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


def _stage(before: int, after: int, blocks: int, stride: int, residual: bool) -> nn.Sequential:
    first = BasicBlock(before, after, stride, residual)
    return nn.Sequential(first, *(BasicBlock(after, after, 1, residual) for _ in range(blocks - 1)))


def _shortcut(before: int, after: int, stride: int) -> nn.Module:
    if stride == 1 and before == after:
        return nn.Identity()
    pad_before = (after - before) // 2
    return OptionAShortcut(stride, pad_before, after - before - pad_before)

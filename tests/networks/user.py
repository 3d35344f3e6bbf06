"""A user's own small networks, each with one thing that pruning must follow, or pin with its reason."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

SHAPE = (3, 16, 16)


def _unit(before: int, after: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.SiLU())


class Network(nn.Module):
    """A body of feature maps and a linear head on their means."""

    input_shape = SHAPE

    def __init__(self, channels: int, classes: int = 7) -> None:
        super().__init__()
        self.head = nn.Linear(channels, classes)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x).mean((2, 3)))


class Residuals(Network):
    """Two branches on one stream, one of them through a projection."""

    def __init__(self) -> None:
        super().__init__(20)
        self.stem, self.inner = _unit(3, 12), nn.Sequential(_unit(12, 10, 1), _unit(10, 12))
        self.wide, self.projection = _unit(12, 20, stride=2), nn.Conv2d(12, 20, 1, stride=2)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = x + self.inner(x)
        return torch.relu(self.wide(x) + self.projection(x))


class Concatenation(Network):
    """Branches side by side, an earlier map handed on beside them, and a batch norm behind the joint."""

    def __init__(self) -> None:
        super().__init__(12)
        self.stem, self.one, self.two = _unit(3, 8), _unit(8, 6, 1), _unit(8, 10, 5)
        self.norm, self.mix = nn.BatchNorm2d(24), _unit(24, 12)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return self.mix(torch.relu(self.norm(torch.cat([self.one(x), x, self.two(x)], 1))))


class SqueezeExcitation(Network):
    """A gate per channel, from linear layers on pooled maps, and one from 1x1 convolutions."""

    def __init__(self) -> None:
        super().__init__(14)
        self.stem, self.wide = _unit(3, 10), _unit(10, 14)
        self.fc1, self.fc2 = nn.Linear(10, 4), nn.Linear(4, 10)
        self.squeeze, self.excite = nn.Conv2d(14, 6, 1), nn.Conv2d(6, 14, 1)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        gate = torch.sigmoid(self.fc2(torch.relu(self.fc1(functional.adaptive_avg_pool2d(x, 1).flatten(1)))))
        x = self.wide(x * gate[:, :, None, None])
        return x * functional.hardsigmoid(self.excite(torch.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))


class GroupedBottlenecks(Network):
    """ResNeXt's block twice: grouped 3x3 convolutions between 1x1 ones, on a residual stream."""

    def __init__(self) -> None:
        super().__init__(16)
        self.stem = _unit(3, 16)
        self.blocks = nn.ModuleList(
            nn.Sequential(_unit(16, 24, 1), _unit(24, 24, groups=4), _unit(24, 16, 1)) for _ in "ab"
        )
        self.last = _unit(16, 16, groups=2)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.last(x)


def _shuffle(x: torch.Tensor, parts: int) -> torch.Tensor:
    images, channels, height, width = x.shape
    x = x.view(images, parts, channels // parts, height, width).transpose(1, 2).contiguous()
    return x.view(images, channels, height, width)


class GroupedShuffles(Network):
    """ShuffleNet-V1's units: grouped 1x1, shuffle, depthwise, grouped 1x1; one adds, one concatenates."""

    def __init__(self) -> None:
        super().__init__(36)
        self.stem = _unit(3, 18)
        self.one, self.two = self._branch(18, 18, 1), self._branch(18, 18, 2)

    @staticmethod
    def _branch(before: int, after: int, stride: int) -> nn.ModuleList:
        return nn.ModuleList(
            [_unit(before, 36, 1, groups=3), _unit(36, 36, stride=stride, groups=36), _unit(36, after, 1, groups=3)]
        )

    @staticmethod
    def _run(branch: nn.ModuleList, x: torch.Tensor) -> torch.Tensor:
        return branch[2](branch[1](_shuffle(branch[0](x), 3)))

    def body(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = x + self._run(self.one, x)
        return torch.cat([functional.avg_pool2d(x, 3, 2, 1), self._run(self.two, x)], 1)


class ChunkedShuffles(Network):
    """ShuffleNet-V2's unit three times: half of the channels pass by, then the halves are interleaved."""

    def __init__(self) -> None:
        super().__init__(10)
        self.stem, self.last = _unit(3, 24), _unit(24, 10)
        self.branches = nn.ModuleList(
            nn.Sequential(_unit(12, 12, 1), _unit(12, 12, groups=12), _unit(12, 12, 1)) for _ in "abc"
        )

    def body(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for branch in self.branches:
            left, right = x.chunk(2, dim=1)
            x = _shuffle(torch.cat([left, branch(right)], 1), 2)
        return self.last(x)


class SharedWeights(Network):
    """One convolution used three times, and one unit used by two branches."""

    def __init__(self) -> None:
        super().__init__(9)
        self.stem, self.same = _unit(3, 12), nn.Conv2d(12, 12, 3, padding=1)
        self.twice, self.last = nn.Conv2d(12, 8, 1), _unit(16, 9)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for _ in range(3):
            x = torch.tanh(self.same(x))
        return self.last(torch.cat([self.twice(x), torch.relu(self.twice(-x))], 1))


class Flattened(nn.Module):
    """Maps flattened in front of linear layers with batch norms, by flatten and by view(n, -1)."""

    input_shape = SHAPE

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.wide = _unit(3, 8, stride=2), _unit(8, 10, stride=2)
        self.fc1, self.norm = nn.Linear(160, 24, bias=False), nn.BatchNorm1d(24)
        self.side, self.head = nn.Linear(512, 24), nn.Linear(24, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        side = torch.tanh(self.side(x.view(x.size(0), -1)))
        return self.head(torch.relu(self.norm(self.fc1(self.wide(x).flatten(1)))) + side)


class PaddedShortcuts(Network):
    """Shortcuts without weights, written by hand: the numbers of zero channels are spelled out in the code."""

    def __init__(self) -> None:
        super().__init__(16)
        self.stem, self.inner = _unit(3, 8), _unit(8, 12)
        self.wide = nn.Sequential(_unit(8, 16, stride=2), _unit(16, 16))
        self.last = _unit(16, 16)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = self.wide(x) + functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4))
        return x + self.last(x)


class Upsampled(Network):
    """A small feature pyramid: resized maps are added, pixels become channels and channels pixels."""

    def __init__(self) -> None:
        super().__init__(12)
        self.stem, self.deep, self.lateral = _unit(3, 12), _unit(12, 16, stride=2), nn.Conv2d(16, 12, 1)
        self.fine, self.last = _unit(12, 24), _unit(6, 12)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        up = functional.interpolate(self.lateral(self.deep(x)), scale_factor=2, mode="nearest")
        return self.last(functional.pixel_shuffle(self.fine(x + up), 2))


class Gated(Network):
    """Gated linear units: one convolution makes both halves; PReLU has a slope per channel."""

    def __init__(self) -> None:
        super().__init__(11)
        self.stem, self.both, self.slope, self.last = _unit(3, 8), nn.Conv2d(8, 20, 3), nn.PReLU(10), _unit(10, 11)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        value, gate = self.both(self.stem(x)).chunk(2, dim=1)
        return self.last(self.slope(value * torch.sigmoid(gate)))


class Normalised(Network):
    """Group, layer and instance norms: what divides by a mean over channels is pinned."""

    def __init__(self) -> None:
        super().__init__(10)
        self.stem, self.groups, self.inner = nn.Conv2d(3, 12, 3), nn.GroupNorm(3, 12), nn.Conv2d(12, 8, 3)
        self.instance, self.last, self.layer = nn.InstanceNorm2d(8, affine=True), nn.Conv2d(8, 10, 1), nn.LayerNorm(10)
        self.hidden, self.back = nn.Linear(10, 20), nn.Linear(20, 10)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        x = self.last(self.instance(self.inner(torch.relu(self.groups(self.stem(x))))))
        x = x.permute(0, 2, 3, 1)
        return (x + self.back(functional.gelu(self.hidden(self.layer(x))))).permute(0, 3, 1, 2)


class Attentive(nn.Module):
    """A transformer's block on patches: attention whole, its multilayer perceptron prunable."""

    input_shape = SHAPE

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norm = nn.Conv2d(3, 16, 4, 4), nn.LayerNorm(16)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.mlp, self.head = nn.Sequential(nn.Linear(16, 28), nn.GELU(), nn.Linear(28, 16)), nn.Linear(16, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return self.head((x + self.mlp(x)).mean(1))


class Stubborn(nn.Module):
    """Spells out numbers of channels in its code: a view, uneven parts, and a slice."""

    input_shape = SHAPE

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.free, self.parts = _unit(3, 12), _unit(12, 14), _unit(14, 12)
        self.left, self.right, self.cut = nn.Conv2d(5, 6, 1), nn.Conv2d(7, 6, 1), nn.Conv2d(4, 8, 3, 2)
        self.head = nn.Linear(392, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left, right = torch.split(self.parts(self.free(self.stem(x))), [5, 7], 1)
        x = torch.relu(self.left(left) + self.right(right))
        return self.head(self.cut(x[:, 1:5]).view(-1, 392))


class Unknown(Network):
    """Operators that cannot be pruned: sums along a row, products of two maps, a transposed convolution."""

    def __init__(self) -> None:
        super().__init__(8)
        self.up = nn.ConvTranspose2d(16, 16, 2, 2, groups=2)
        self.stem, self.free, self.again = _unit(3, 8), _unit(8, 10), _unit(10, 16)
        self.inner, self.last = _unit(1, 9), nn.Conv2d(9, 8, 3, dilation=2)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        x = self.up(self.again(torch.cumsum(self.free(self.stem(x)), 3))).flatten(2)
        return self.last(self.inner(torch.einsum("ncp,ndp->ncd", x, x @ x.transpose(1, 2) @ x)[:, None]))

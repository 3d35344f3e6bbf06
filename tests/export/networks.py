"""Small networks, each with one thing that an export can get wrong."""

from __future__ import annotations

import functools

import onnx
import torch
from torch import nn

from amc_mobile.export.to_onnx import export

SHAPE = (3, 16, 16)


class PreActivation(nn.Module):
    """A batch norm that nothing in front of it can take up, and one that the layer before it can."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(3)
        self.conv1 = nn.Conv2d(3, 8, 3, bias=False)
        self.norm2 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 6, 1)
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        x = self.norm2(self.conv1(torch.relu(self.norm1(x))))
        return self.head(self.conv2(torch.relu(x)).mean((2, 3)))


class SharedConvolution(nn.Module):
    """One convolution used twice, each time with a batch norm of its own: neither may be folded."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(3), nn.BatchNorm2d(3)])

    def forward(self, x):
        for norm in self.norms:
            x = norm(self.conv(x))
        return x.mean((2, 3))


class TiedWeights(nn.Module):
    """Two convolutions with one weight: the graph stores it by one name, the module has two."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.first, self.second = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.second.weight = self.first.weight
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        return self.head(torch.relu(self.second(torch.relu(self.first(x)))).mean((2, 3)))


class ReadTwice(nn.Module):
    """A convolution whose output is also read before the batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x):
        x = self.conv(x)
        return (x + self.norm(x)).mean((2, 3))


class LinearNorm(nn.Module):
    """Batch norm after a linear layer, one without affine parameters, and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(3, 8, bias=False)
        self.norm1 = nn.BatchNorm1d(8, affine=False)
        self.fc2 = nn.Linear(8, 4)
        self.norm2 = nn.BatchNorm1d(4)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        x = self.drop(torch.relu(self.norm1(self.fc1(x.mean((2, 3))))))
        return self.norm2(self.fc2(x))


class Tokens(nn.Module):
    """A linear layer on three axes: the exporter writes MatMul with the weight transposed, and Add."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        self.mix = nn.Linear(8, 8)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        return self.head(torch.relu(self.mix(x)).mean(1))


class RawParameters(nn.Module):
    """Convolutions by function, with parameters that belong to no layer's module."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Parameter(torch.randn(4, 3, 3, 3)), nn.Parameter(torch.randn(5, 4, 1, 1))
        self.norm1, self.norm2 = nn.BatchNorm2d(4), nn.BatchNorm2d(5)

    def forward(self, x):
        x = torch.relu(self.norm1(nn.functional.conv2d(x, self.first)))
        return self.norm2(nn.functional.conv2d(x, self.second)).mean((2, 3))


class Stretched(nn.Module):
    """Parameters per channel that are used with further axes, and a table of which only what is picked is stored."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.slope = nn.Conv2d(3, 6, 3), nn.PReLU(6)
        self.scale, self.table = nn.Parameter(torch.rand(6) + 0.5), nn.Parameter(torch.randn(4, 2))
        self.register_buffer("picked", torch.tensor([3, 0, 2]))

    def forward(self, x):
        x = self.slope(self.conv(x)) * self.scale.view(1, -1, 1, 1)
        return x.mean((2, 3)) + self.table[self.picked].flatten()


class TwoAnswers(nn.Module):
    """Logits and a second head, of which only training makes use; and a chunk of the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 9, 1)
        self.head, self.spare = nn.Linear(5, 3), nn.Linear(4, 7)

    def forward(self, x):
        first, second = self.conv(x).mean((2, 3)).chunk(2, dim=1)
        return self.head(first), self.spare(second)


class DataDependent(nn.Module):
    """Cannot be exported: what it does depends on the pixels."""

    def forward(self, x):
        return x.mean((2, 3)) if float(x.sum()) > 0 else x.amax((2, 3))


def lively(module: nn.Module) -> nn.Module:
    """The module with batch norms that do something, in eval mode."""
    generator = torch.Generator().manual_seed(1)

    def uniform(tensor: torch.Tensor, low: float, high: float) -> None:
        tensor.data.uniform_(low, high, generator=generator)

    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            uniform(part.running_mean, -0.5, 0.5)
            uniform(part.running_var, 0.5, 2.0)
            if part.affine:
                uniform(part.weight, 0.5, 1.5)
                uniform(part.bias, -0.5, 0.5)
    return module.eval()


@functools.cache
def exported_tiny(network: type[nn.Module]) -> tuple[nn.Module, onnx.ModelProto]:
    """A lively network and its graph. Shared: copy them before changing them."""
    module = lively(network())
    return module, export(module, SHAPE)

"""A PyTorch module takes on the shapes of smaller tensors: parameters, buffers, and the numbers that describe them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from amc_mobile.prune.heads import fit_heads

Pads = dict[str, tuple[int, int]]  # zero channels before and after, by the name of the shortcut module


def resize(module: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Replaces the module's parameters and buffers, in place, by `tensors` (names as in its state_dict).

    Channel counts that the layers remember (`in_channels`, `num_features`, `num_heads`, ...) follow the shapes.
    Layers that share a parameter share it afterwards.
    """
    made: dict[nn.Parameter, nn.Parameter] = {}  # by what they replace
    for name, part in module.named_modules():
        prefix = f"{name}." if name else ""
        for key, parameter in part.named_parameters(recurse=False):
            if parameter not in made:
                value = tensors[prefix + key].detach().clone().contiguous()
                made[parameter] = nn.Parameter(value, requires_grad=parameter.requires_grad)
            setattr(part, key, made[parameter])
        for key, buffer in part.named_buffers(recurse=False):
            setattr(part, key, tensors.get(prefix + key, buffer).detach().clone())
        _renumber(part)
    for part in module.modules():
        fit_heads(part)


def _renumber(part: nn.Module) -> None:
    """Makes a layer's description agree with its weight."""
    if isinstance(part, _ConvNd) and not part.transposed:
        out, per_group = part.weight.shape[:2]
        if 1 < part.groups == part.in_channels:  # depthwise: each channel is a group of its own
            part.groups = part.groups * out // part.out_channels
        part.in_channels, part.out_channels = per_group * part.groups, out
    elif isinstance(part, _NormBase):
        vector = part.weight if part.affine else part.running_mean
        part.num_features = part.num_features if vector is None else len(vector)
    elif isinstance(part, nn.Linear):
        part.out_features, part.in_features = part.weight.shape
    elif isinstance(part, nn.PReLU):
        part.num_parameters = len(part.weight)


def shortcuts(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The parts that add zero channels to what they hand on: those with `pad_before` and `pad_after`."""
    for name, part in module.named_modules():
        if isinstance(getattr(part, "pad_before", None), int) and isinstance(getattr(part, "pad_after", None), int):
            yield name, part


def set_pads(module: nn.Module, pads: Pads) -> None:
    """Gives every shortcut its numbers of zero channels, in place. Raises: KeyError for one that `pads` lacks."""
    for name, part in shortcuts(module):
        before, after = pads[name]
        vars(part).update(pad_before=before, pad_after=after)

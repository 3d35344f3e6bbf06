"""Batch normalisation in training: frozen, taken anew, and over several processes as over one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import torch
import torch.distributed.nn.functional as collective
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

_ONE = 1e-4  # how near to 1 a variance is that nobody estimated; 1 - eps undoes a batch norm's own epsilon


def batch_norms(module: nn.Module) -> list[_BatchNorm]:
    """Every batch normalisation that keeps statistics."""
    found = [part for part in module.modules() if isinstance(part, _BatchNorm)]
    return [norm for norm in found if norm.running_mean is not None and norm.running_var is not None]


def trivial(module: nn.Module) -> bool:
    """Whether there are batch norms and none of them has ever estimated anything: all variances are 1.

    So it is in networks whose batch norms were folded away elsewhere and came back as mere scale and shift. The means
    do not count: a repair after pruning moves them.
    """
    norms = batch_norms(module)
    return bool(norms) and all(bool((_variance(norm) - 1).abs().max() <= _ONE) for norm in norms)


def freeze(module: nn.Module) -> None:
    """Lets batch norms use and keep their statistics, until the next `module.train()`; scale and shift still learn."""
    for norm in batch_norms(module):
        norm.eval()


def reestimate(module: nn.Module, batches: Iterable[torch.Tensor]) -> None:
    """Takes all statistics anew, in place: the mean over the batches of each one's mean and (unbiased) variance.

    Images are float32 (N, C, H, W); the rest of the module runs in eval mode, in which it is left. Needed where weights
    are no longer those whose outputs were averaged while training (Izmailov et al., UAI 2018, section 3.2).
    """
    norms = batch_norms(module)
    momenta = [norm.momentum for norm in norms]
    module.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative average
        norm.train()
    try:
        with torch.no_grad():
            for images in batches:
                module(images)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        module.eval()


@contextlib.contextmanager
def synchronised(modules: Sequence[nn.Module], group: torch.distributed.ProcessGroup | None) -> Iterator[None]:
    """While it lasts, batch norms in training mode see the batch of all processes; None: nothing changes.

    torch's SyncBatchNorm does the same, but on GPUs only, and as another module.
    """
    if group is None:
        yield
        return
    norms = [part for module in modules for part in module.modules() if isinstance(part, _BatchNorm)]
    for norm in norms:
        norm.forward = partial(_forward, norm, group)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


def _forward(norm: _BatchNorm, group: torch.distributed.ProcessGroup, x: torch.Tensor) -> torch.Tensor:
    """The batch norm of x (N, C, ...), N being a part of the batch. Differentiable through the common statistics."""
    if not norm.training and norm.running_mean is not None:
        return type(norm).forward(norm, x)
    axes, column = [0, *range(2, x.ndim)], (1, -1, *[1] * (x.ndim - 2))
    with torch.autocast(x.device.type, enabled=False):
        wide = x.float()
        sums = _summed(torch.cat([wide.sum(axes), wide.new_tensor([wide.numel() // wide.shape[1]])]), group)
        count, mean = sums[-1].detach(), sums[:-1] / sums[-1].detach()
        centred = wide - mean.reshape(column)
        variance = _summed(centred.square().sum(axes), group) / count
        out = centred * torch.rsqrt(variance + norm.eps).reshape(column)
        if norm.weight is not None:
            out = out * norm.weight.reshape(column) + norm.bias.reshape(column)
    _remember(norm, mean.detach(), variance.detach() * count / (count - 1))
    return out.to(x.dtype)


def _summed(tensor: torch.Tensor, group: torch.distributed.ProcessGroup) -> torch.Tensor:
    total: torch.Tensor = collective.all_reduce(tensor, group=group)  # type: ignore[no-untyped-call]
    return total


def _remember(norm: _BatchNorm, mean: torch.Tensor, variance: torch.Tensor) -> None:
    """Moves the running statistics as batch normalisation does."""
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked += 1
    share = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean, share)
    norm.running_var.lerp_(variance, share)


def _variance(norm: _BatchNorm) -> torch.Tensor:
    variance = norm.running_var
    assert variance is not None  # noqa: S101 - see batch_norms
    return variance

"""What is trivial, what stays frozen, and what is estimated anew."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from amc_mobile.train.batch_norm import freeze, reestimate, trivial


def norms(*variances):
    found = [nn.BatchNorm2d(3) for _ in variances]
    for norm, variance in zip(found, variances, strict=True):
        norm.running_var.fill_(variance)
    return nn.Sequential(*found)


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (norms(1.0, 1.0), True),
        (norms(1.0 - 1e-5), True),  # what undoes a batch norm's own epsilon
        (norms(1.0, 0.9), False),
        (nn.Conv2d(1, 1, 1), False),  # no batch norms at all
        (nn.BatchNorm2d(3, track_running_stats=False), False),
    ],
)
def test_batch_norms_that_never_estimated_anything_are_trivial(module, expected):
    assert trivial(module) == expected


def test_one_estimated_channel_is_enough():
    module = norms(1.0)
    module[0].running_var[2] = 0.99
    assert not trivial(module)


def test_moved_means_and_scales_do_not_count():
    module = norms(1.0)
    module[0].running_mean.fill_(3.0)
    module[0].weight.data.fill_(0.2)
    assert trivial(module)


def test_frozen_ones_use_their_statistics():
    module = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5)).train()
    freeze(module)
    images = torch.randn(4, 3, 2, 2) + 5
    torch.testing.assert_close(module[0](images), images, rtol=1e-4, atol=1e-4)
    assert module[1].training
    assert module[0].num_batches_tracked == 0


def test_reestimated_statistics_are_those_of_the_inputs():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3), nn.BatchNorm2d(2))
    module[1].running_mean.fill_(9.0)
    batches = [torch.randn(8, 1, 9, 9) * scale + scale for scale in (1.0, 2.0, 4.0)]
    reestimate(module, batches)
    with torch.no_grad():
        first = [module[0](images) for images in batches]
        second = [module[3](torch.relu(fresh(module[1])(inputs))) for inputs in first]
    for norm, inputs in ((module[1], first), (module[4], second)):
        mean = torch.stack([part.mean((0, 2, 3)) for part in inputs]).mean(0)
        variance = torch.stack([part.var((0, 2, 3)) for part in inputs]).mean(0)
        torch.testing.assert_close(norm.running_mean, mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(norm.running_var, variance, rtol=1e-4, atol=1e-5)
        assert norm.momentum == 0.1
    assert not any(part.training for part in module.modules())


def fresh(norm):
    """The same batch norm as it is while statistics are taken: it uses the batch's own."""
    other = copy.deepcopy(norm).train()
    other.reset_running_stats()
    return other

"""Which arithmetic a device gets, and that the scaler's state survives."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from amc_mobile.errors import ConfigError
from amc_mobile.train.precision import Arithmetic

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("asked", "given", "dtype"), [("auto", "fp32", None), ("fp32", "fp32", None), ("bf16", "bf16", torch.bfloat16)]
)
def test_a_cpu_computes_in_full_unless_asked(asked, given, dtype):
    arithmetic = Arithmetic(asked, CPU)
    assert arithmetic.name == given
    with arithmetic.autocast():
        assert nn.Linear(2, 2)(torch.ones(1, 2)).dtype == (dtype or torch.float32)


def test_fp16_needs_a_gpu():
    with pytest.raises(ConfigError, match="set precision to 'bf16', 'fp32' or 'auto'"):
        Arithmetic("fp16", CPU)


@pytest.mark.parametrize(("gradient", "used"), [(30.0, 2.0), (1.5, 1.5)])
def test_a_gradient_is_clipped_to_its_largest_norm(gradient, used):
    weight = nn.Parameter(torch.zeros(4))
    optimiser = torch.optim.SGD([weight], lr=1.0)
    Arithmetic("fp32", CPU, clip=2.0).step(weight.sum() * gradient / 2, optimiser)
    assert float(weight.detach().norm()) == pytest.approx(used, rel=1e-4)


def test_a_step_follows_the_gradient():
    weight = nn.Parameter(torch.tensor([3.0]))
    arithmetic = Arithmetic("fp32", CPU)
    optimiser = torch.optim.SGD([weight], lr=0.1)
    for _ in range(2):  # the first gradient must not linger
        arithmetic.step((weight**2).sum(), optimiser)
    assert float(weight.detach()) == pytest.approx(3.0 * 0.8**2)
    arithmetic.load_state_dict(arithmetic.state_dict())

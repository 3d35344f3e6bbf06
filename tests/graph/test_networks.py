"""Golden facts of known networks, and masked = sliced on each of them."""

from __future__ import annotations

import numpy as np
import pytest

from amc_mobile.cost.formulas import macs, params, size_bytes
from amc_mobile.graph.batch import with_batch
from amc_mobile.graph.trace import trace
from tests.graph.builders import images_for, random_channels, relative_error, run

GROUPS = {  # prunable groups and their channels, as an independent prototype counted them
    "mobilenet_v2": (25, 9128),
    "resnet56": (30, 1072),
    "resnet20": (12, 400),
    "digits": None,
    "densenet121": (120, 10240),
    "vgg16_bn": (15, 12416),
    "resnet50": (37, 11456),
    "mobilenet_v3_small": (27, 4872),
    "googlenet": (57, 7280),
}
SLOW = ("densenet121", "vgg16_bn", "resnet50", "mobilenet_v3_small", "googlenet", "resnet56")
NETWORKS = [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in GROUPS]


@pytest.mark.parametrize("name", NETWORKS)
def test_groups_slices_and_bytes(name: str, exported) -> None:
    traced = trace(exported(name), name)
    prunable = traced.network.prunable()
    if GROUPS[name]:
        assert (len(prunable), sum(group.channels for group in prunable)) == GROUPS[name]
    assert all(group.reason for group in traced.network.groups if not group.prunable)
    random = np.random.default_rng(3)
    for _ in range(2):
        channels, images = random_channels(traced, random), images_for(traced, random)
        sliced = traced.slice(channels)
        answer = run(sliced, images)
        assert relative_error(answer, run(traced.mask(channels), images)) < 1e-4
        pair = run(with_batch(sliced, 2), np.concatenate([images, images[..., ::-1]]))
        assert relative_error(pair[:1], answer) < 1e-5
        kept = [len(stay) for stay in channels]
        assert size_bytes(traced.network, kept) == pytest.approx(sliced.ByteSize(), rel=0.002)
        stored = sum(int(np.prod(item.dims)) for item in sliced.graph.initializer if item.data_type == 1 and item.dims)
        buffers = [t.name for t in traced.network.tensors if t.buffer]
        stored -= sum(int(np.prod(item.dims)) for item in sliced.graph.initializer if item.name in buffers)
        assert params(traced.network, kept) == stored


@pytest.mark.parametrize("name", NETWORKS)
def test_macs_equal_the_flop_counter(name: str, exported, module_of) -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    network = trace(exported(name), name).network
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module_of(name)(torch.zeros(network.input_shape))
    assert macs(network, network.full().kept) * 2 == counter.get_total_flops()


def test_mobilenet_v2_costs_what_is_known(exported) -> None:
    network = trace(exported("mobilenet_v2"), "mobilenet_v2").network
    assert macs(network, network.full().kept) == 300_774_272
    assert params(network, network.full().kept) == 3_504_872 - 17_056  # batch norms: one bias for weight and bias

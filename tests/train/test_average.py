"""The moving average against one computed by hand."""

from __future__ import annotations

import torch

from amc_mobile.train.average import WeightAverage
from tests.train.networks import Tiny, same


def moved(module, amount):
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            tensor.add_(1 if tensor.dtype == torch.int64 else amount * (1 + tensor.abs()))


def test_the_average_is_the_one_computed_by_hand():
    module, decay = Tiny(), 0.4
    average = WeightAverage(module, decay)
    expected = {name: tensor.double().clone() for name, tensor in module.state_dict().items()}
    for step in range(9):
        moved(module, 0.1 * step)
        average.update(module)
        kept = min(decay, (1 + step) / (10 + step))
        for name, tensor in module.state_dict().items():
            expected[name] = kept * expected[name] + (1 - kept) * tensor.double()
    state = average.network.state_dict()
    for name, tensor in expected.items():
        if name == "norm.num_batches_tracked":
            assert state[name] == module.norm.num_batches_tracked == 9
        else:
            torch.testing.assert_close(state[name].double(), tensor, rtol=1e-5, atol=1e-6)
    assert not average.network.training


def test_it_goes_on_from_its_state():
    module = Tiny()
    whole, first = WeightAverage(module, 0.99), WeightAverage(module, 0.99)
    for step in range(4):
        moved(module, 0.01)
        whole.update(module)
        if step < 2:
            first.update(module)
        if step == 1:
            second = WeightAverage(Tiny(), 0.99)
            second.load_state_dict(first.state_dict())
        if step > 1:
            second.update(module)
    assert same(second.network, whole.network)

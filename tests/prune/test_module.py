"""Masked graph = sliced graph = sliced module for any channels, and with refitted weights too."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from amc_mobile.errors import GraphError
from amc_mobile.export.to_onnx import export, parity
from amc_mobile.graph.trace import trace
from amc_mobile.graph.traced import first_channels
from amc_mobile.prune.gram import collect
from amc_mobile.prune.importance import keep, rank
from amc_mobile.prune.module import assign, slice_module
from amc_mobile.prune.reconstruct import Reconstructor
from amc_mobile.prune.sparse import SparsePruner
from amc_mobile.prune.sparse_module import sparse_module
from amc_mobile.types import Policy
from tests.export.networks import TiedWeights, exported_tiny
from tests.graph.builders import relative_error, run
from tests.prune.networks import share

NETWORKS = [
    "digits",
    "resnet20",
    "mobilenet_v2",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("resnet56", "vgg16_bn", "densenet121")),
]
TOLERANCE = 1e-4


def random_channels(traced, random: np.random.Generator):
    """A third to all of every prunable group."""
    return tuple(
        np.sort(random.permutation(group.channels)[: random.integers(-(-group.channels // 3), group.channels + 1)])
        if group.prunable
        else np.arange(group.channels)
        for group in traced.network.groups
    )


def answers(module: nn.Module, images: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return module.eval()(torch.from_numpy(images)).numpy()


def noise(traced, count: int = 1) -> np.ndarray:
    return np.random.default_rng(5).standard_normal((count, *traced.network.input_shape[1:])).astype(np.float32)


@pytest.mark.parametrize("name", NETWORKS)
def test_masked_sliced_and_module_agree(name, module_of, exported):
    module, traced = module_of(name), trace(exported(name), name)
    images, random = noise(traced), np.random.default_rng(0)
    before = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    for _ in range(2):
        channels = random_channels(traced, random)
        sliced = run(traced.slice(channels), images)
        assert relative_error(run(traced.mask(channels), images), sliced) < TOLERANCE
        small = slice_module(module, traced, channels)
        assert relative_error(answers(small, images), sliced) < TOLERANCE
    assert all(torch.equal(tensor, before[key]) for key, tensor in module.state_dict().items())


@pytest.mark.parametrize("name", NETWORKS)
def test_refitted_weights_in_the_module_equal_the_graph(name, module_of, exported):
    traced = trace(exported(name), name)
    grams = collect(traced, noise(traced, 4), 10, seed=0, threads=1)
    ranking = rank(traced, "l1")
    channels = keep(share(traced, 0.6), ranking)
    weights = Reconstructor(traced, grams, 1e-3, ranking).weights(channels)
    small = slice_module(module_of(name), traced, channels)
    assign(small, weights, traced)
    images = noise(traced)
    assert relative_error(answers(small, images), run(traced.slice(channels, weights), images)) < TOLERANCE
    assert relative_error(run(traced.slice(channels), images), run(traced.slice(channels, weights), images)) > 1e-3


def test_layers_describe_themselves(module_of, exported):
    traced = trace(exported("mobilenet_v2"), "mobilenet_v2")
    channels = random_channels(traced, np.random.default_rng(1))
    small = slice_module(module_of("mobilenet_v2"), traced, channels)
    for part in small.modules():
        if isinstance(part, nn.Conv2d):
            assert part.weight.shape[:2] == (part.out_channels, part.in_channels // part.groups)
        elif isinstance(part, nn.BatchNorm2d):
            assert part.num_features == len(part.weight) == len(part.running_var)
        elif isinstance(part, nn.Linear):
            assert part.weight.shape == (part.out_features, part.in_features)
    depthwise = small.features[3].conv[1][0]
    assert depthwise.groups == depthwise.in_channels == depthwise.out_channels < 144


def test_shortcut_pads_follow_the_channels(module_of, exported):
    traced = trace(exported("resnet20"), "resnet20")
    full = tuple(np.arange(group.channels) for group in traced.network.groups)
    assert slice_module(module_of("resnet20"), traced, full).layer2[0].shortcut.pad_before == 8
    policy = share(traced, 0.5)
    small = slice_module(module_of("resnet20"), traced, keep(policy, rank(traced, "l1")))
    shortcut = small.layer2[0].shortcut
    assert shortcut.pad_before + small.layer1[0].conv1.in_channels + shortcut.pad_after == (
        small.layer2[0].conv2.out_channels
    )


class Tiny(nn.Module):
    """A convolution with a batch norm, one without, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, bias=True)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 6, 3, bias=False)
        self.second_norm = nn.BatchNorm2d(6, affine=True)
        self.head = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.conv(x)))
        return self.head(torch.relu(self.second_norm(self.second(x))).mean((2, 3)))


class Stubborn(Tiny):
    """Spells out how many channels it has."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.conv(x)))
        return self.head(self.second_norm(self.second(x)).view(-1, 6, 16).mean(2))


def traced_tiny(module: nn.Module):
    return trace(export(module.eval(), (3, 8, 8)), "tiny")


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    module = Tiny()
    return module, traced_tiny(module)


def test_dead_and_tiny_batch_norm_scales_can_be_refitted():
    torch.manual_seed(0)
    module = Tiny()
    with torch.no_grad():
        module.second_norm.weight[0] = 0.0
        module.second_norm.weight[1] = 1e-30
        module.second_norm.bias.normal_()
        module.second_norm.running_mean.normal_()
    traced = traced_tiny(module)
    grams = collect(traced, noise(traced, 20), 10, seed=0, threads=1)
    channels = keep(share(traced, 0.7), rank(traced, "l1"))
    weights = Reconstructor(traced, grams, 1e-3).weights(channels)
    small = slice_module(module, traced, channels)
    assign(small, weights, traced)
    assert all(torch.isfinite(tensor).all() for tensor in small.state_dict().values())
    assert parity(small, traced.slice(channels, weights), noise(traced)) < TOLERANCE


def test_a_dead_channel_whose_weight_alone_changes_answers_what_it_did():
    torch.manual_seed(0)
    module = Tiny()
    with torch.no_grad():
        module.second_norm.weight[0] = 0.0
        module.second_norm.bias.normal_()
        module.second_norm.running_mean.normal_(std=100)
    traced = traced_tiny(module)
    weights = {"second.weight": 0.5 * traced.weight("second.weight")}
    whole = first_channels(traced.network.full())
    assign(module, weights, traced)
    assert parity(module, traced.slice(whole, weights), noise(traced)) < TOLERANCE


def test_a_refit_keeps_what_batch_norms_learnt(tiny):
    """Only the running mean follows: in training mode the mean output of every channel is what it was."""
    module, traced = tiny
    grams = collect(traced, noise(traced, 20), 10, seed=0, threads=1)
    channels = keep(share(traced, 0.7), rank(traced, "l1"))
    small = slice_module(module, traced, channels)
    before = copy.deepcopy(small)
    assign(small, Reconstructor(traced, grams, 1e-3).weights(channels), traced)
    assert torch.equal(small.second_norm.weight, before.second_norm.weight)
    assert torch.equal(small.second_norm.bias, before.second_norm.bias)
    assert not torch.equal(small.second_norm.running_mean, before.second_norm.running_mean)


def test_layers_that_share_a_weight_share_it_when_they_are_cut():
    module, model = exported_tiny(TiedWeights)
    traced = trace(model, "tied")
    small = slice_module(module, traced, keep(share(traced, 0.5), rank(traced, "l1")))
    assert small.first.weight is small.second.weight
    assert small.first.weight.shape[0] < 6
    pruner = SparsePruner(traced)
    half = Policy(tuple(group.channels // 2 for group in pruner.network.groups))
    sparse, keeper = sparse_module(module, pruner, half)
    keeper(sparse)
    assert sparse.first.weight is sparse.second.weight
    assert 0 < torch.count_nonzero(sparse.first.weight) < sparse.first.weight.numel()


def test_trainable_flags_survive(tiny):
    module, traced = copy.deepcopy(tiny[0]), tiny[1]
    module.second.weight.requires_grad_(False)
    small = slice_module(module, traced, keep(share(traced, 0.5), rank(traced, "l1")))
    assert not small.second.weight.requires_grad and small.head.weight.requires_grad
    small.train()(torch.zeros(2, 3, 8, 8)).sum().backward()


def test_code_that_spells_out_its_channels_is_one_clear_error():
    module = Stubborn()
    traced = traced_tiny(module)
    group = next(group for group in traced.network.groups if "second" in group.producers)
    channels = tuple(np.arange(other.channels - (other is group)) for other in traced.network.groups)
    with pytest.raises(GraphError, match="fewer channels") as caught:
        slice_module(module, traced, channels)
    assert "\n" not in str(caught.value)


def test_weights_for_other_channels_are_refused(tiny):
    module, traced = tiny
    small = slice_module(module, traced, keep(share(traced, 0.5), rank(traced, "l1")))
    with pytest.raises(GraphError, match="does not fit"):
        assign(small, {"head.weight": np.zeros((4, 6), np.float32)}, traced)
    with pytest.raises(GraphError, match="does not fit"):
        assign(small, {"unknown.weight": np.zeros((4, 6), np.float32)}, traced)

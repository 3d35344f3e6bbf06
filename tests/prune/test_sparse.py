"""Fine-grained pruning: what the view says a network costs is what a count of its weights gives."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from amc_mobile.cost.formulas import layer_macs, macs, memory_bytes, params, size_bytes
from amc_mobile.errors import ConfigError, DataError, GraphError
from amc_mobile.export.to_onnx import export, parity
from amc_mobile.graph.trace import trace
from amc_mobile.graph.traced import first_channels
from amc_mobile.models.zoo import find, load_module
from amc_mobile.prune import weight_ranking
from amc_mobile.prune.gram import collect, tensor_session
from amc_mobile.prune.refresh import refresh
from amc_mobile.prune.sparse import SparsePruner, sparse_view
from amc_mobile.prune.sparse_module import sparse_module
from amc_mobile.prune.sparse_repair import SparseReconstructor
from amc_mobile.prune.weight_ranking import emptied, rank_weights
from amc_mobile.types import Policy
from tests.graph.builders import Builder, run
from tests.prune.networks import branches, chain, images, residual


def grouped_and_shared():
    """A grouped convolution, and a weight that is used twice."""
    b = Builder(channels=4, size=6)
    x = b.op("Relu", b.conv("input", "grouped", 4, 8, group=2))
    x = b.op("Relu", b.conv(x, "twice", 8, 8))
    node = b.nodes[-2]
    x = b.op("Conv", x, *node.input[1:], pads=[1] * 4)
    return trace(b.build(b.conv(x, "head", 8, 3, 1)), "shared")


NETWORKS = [(traced, SparsePruner(traced)) for traced in (chain(), residual(), branches(), grouped_and_shared())]


def policies(network, seed: int) -> Policy:
    random = np.random.default_rng(seed)
    return Policy(tuple(int(random.integers(1, group.channels + 1)) for group in network.groups))


def stored(model) -> dict[str, np.ndarray]:
    return {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000))
def test_costs_are_a_count_of_what_is_not_zero(seed):
    for traced, pruner in NETWORKS:
        policy = policies(pruner.network, seed)
        arrays = stored(pruner.prune(policy))
        floats = {tensor.name for tensor in traced.network.tensors}
        nonzero = {name: np.count_nonzero(array) for name, array in arrays.items() if name in floats}
        assert params(pruner.network, policy.kept) == sum(nonzero.values())
        assert macs(pruner.network, policy.kept) == sum(
            nonzero[layer.weight] * math.prod(layer.out_hw) for layer in traced.network.layers
        )


@pytest.mark.parametrize("number", range(len(NETWORKS)))
def test_the_whole_network_costs_what_it_did(number):
    network, view = NETWORKS[number][0].network, NETWORKS[number][1].network
    before, after = network.full().kept, view.full().kept
    for formula in (macs, params, size_bytes, memory_bytes):
        assert formula(view, after) == formula(network, before)
    for layer, sparse in zip(network.layers, view.layers, strict=True):
        assert layer_macs(sparse, after) == layer_macs(layer, before)
        assert sparse.in_hw == layer.in_hw and sparse.name == layer.name
    assert [group.index for group in view.groups] == list(range(len(view.groups)))
    assert not view.groups[-1].prunable and all(group.prunable for group in view.groups[:-1])


def test_a_shared_weight_is_one_decision():
    view = sparse_view(grouped_and_shared().network)
    assert [group.name for group in view.groups] == ["grouped", "twice", "head", "one"]


def test_the_smallest_go_first_and_stay_away():
    traced, pruner = NETWORKS[0]
    one, two = (np.array(pruner.network.full().kept) // divisor for divisor in (2, 4))
    more, fewer = (pruner.masks(Policy(tuple(np.maximum(kept, 1).tolist()))) for kept in (one, two))
    for name, mask in more.items():
        sizes = np.abs(traced.weight(name))
        assert sizes[mask].min() >= sizes[~mask].max()
        assert not (fewer[name] & ~mask).any()


def test_nothing_pruned_changes_nothing():
    traced, pruner = NETWORKS[1]
    data = images(traced, 1)
    np.testing.assert_array_equal(run(pruner.prune(pruner.network.full()), data), run(traced.model, data))


@pytest.mark.parametrize("repaired", [False, True])
@pytest.mark.parametrize("name", ["digits", "resnet20"])
def test_the_module_has_the_zeros_of_the_graph(name, repaired):
    entry = find(name)
    module = load_module(entry, None)
    with torch.no_grad():  # scales that differ from filter to filter
        for part in module.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.weight.uniform_(0.5, 2)
                part.running_var.uniform_(0.5, 2)
    traced = trace(export(module, entry.input_shape), name)
    data = np.random.default_rng(0).standard_normal((3, *entry.input_shape)).astype(np.float32)
    repair = SparseReconstructor(traced, collect(traced, data, 10, seed=0, every=True), 1e-3) if repaired else None
    pruner = SparsePruner(traced, repair=repair)
    policy = policies(pruner.network, 3)
    sparse, keeper = sparse_module(module, pruner, policy)
    assert parity(sparse, pruner.prune(policy), data) < 1e-4
    assert parity(module, pruner.prune(policy), data) > 1e-3
    optimiser = torch.optim.SGD(sparse.parameters(), lr=0.1, momentum=0.9)
    for _ in range(2):
        sparse.train()(torch.from_numpy(data)).square().sum().backward()
        optimiser.step()
        keeper(sparse)
    again = stored(export(sparse, entry.input_shape))
    masks = pruner.masks(policy)
    assert all(not again[weight][~mask].any() for weight, mask in masks.items())
    assert any((again[weight] != traced.weight(weight)).any() for weight in masks)


def test_what_stays_imitates_what_was():
    """The last layer's outputs against an independent least squares, one for each output with its own weights."""
    traced = grouped_and_shared()
    data = images(traced, 40)
    grams = collect(traced, data, 1000, seed=0, every=True)
    pruner = SparsePruner(traced, repair=SparseReconstructor(traced, grams, 0.0))
    full = pruner.network.full().kept
    policy = Policy((*full[:-2], full[-2] // 2, full[-1]))
    head = traced.network.layers[-1]
    session = tensor_session(traced.model, [head.input], 1)
    batch = session.get_inputs()[0].shape[0]
    parts = data.reshape(-1, batch, *data.shape[1:])
    inputs = np.concatenate([session.run(None, {"input": part})[0] for part in parts])
    rows = np.moveaxis(inputs, 1, -1).reshape(-1, head.in_channels)
    wanted, got, cut = (
        np.concatenate([np.moveaxis(run(model, image[None]), 1, -1).reshape(-1, head.out_channels) for image in data])
        for model in (traced.model, pruner.prune(policy), SparsePruner(traced).prune(policy))
    )
    mask = pruner.masks(policy)[head.weight].reshape(head.out_channels, -1)
    assert 0 < mask.sum() < mask.size
    for output, stays in enumerate(mask):
        columns = np.column_stack([rows[:, stays], np.ones(len(rows))])
        best = columns @ np.linalg.lstsq(columns, wanted[:, output], rcond=None)[0]
        np.testing.assert_allclose(got[:, output], best, atol=1e-3)
    assert np.square(got - wanted).mean() < 0.9 * np.square(cut - wanted).mean()


@pytest.mark.parametrize("number", range(len(NETWORKS)))
def test_a_repair_keeps_the_zeros_and_leaves_what_is_whole(number):
    traced, plain = NETWORKS[number]
    grams = collect(traced, images(traced, 8), 4, seed=0, every=True)
    pruner = SparsePruner(traced, repair=SparseReconstructor(traced, grams, 1e-3))
    policy = policies(pruner.network, 5)
    repaired, cut = stored(pruner.prune(policy)), stored(plain.prune(policy))
    masks = pruner.masks(policy)
    assert all(not repaired[name][~mask].any() for name, mask in masks.items())
    assert any((repaired[name] != cut[name]).any() for name in masks)
    data = images(traced, 1)
    whole = pruner.network.full()
    np.testing.assert_array_equal(run(pruner.prune(whole), data), run(traced.model, data))


def least_squared_error(rows, wanted, kept) -> float:
    found = rows[:, kept] @ np.linalg.lstsq(rows[:, kept], wanted, rcond=None)[0] if len(kept) else 0.0
    return float(np.square(wanted - found).sum())


def test_an_output_is_emptied_by_what_a_refit_cannot_repair():
    """Against a search of every next removal by an independent least squares."""
    random = np.random.default_rng(0)
    rows = random.standard_normal((60, 9)) @ random.standard_normal((9, 9))
    weight = random.standard_normal(9)
    left, worst, expected = list(range(9)), 0.0, np.empty(9)
    while left:
        now = least_squared_error(rows, rows @ weight, left)
        errors = {j: least_squared_error(rows, rows @ weight, [k for k in left if k != j]) - now for j in left}
        gone = min(left, key=errors.__getitem__)
        worst = max(worst, errors[gone])
        expected[gone] = worst
        left.remove(gone)
    np.testing.assert_allclose(emptied(np.linalg.inv(rows.T @ rows), weight), expected, rtol=1e-6)
    assert list(np.argsort(expected)) != list(np.argsort(np.abs(weight)))


@pytest.mark.parametrize("blocks", [1, 2])
def test_weights_chosen_for_the_repair_imitate_better(blocks, monkeypatch):
    """On one layer whose inputs say much the same, as those of images do; also if it is emptied in blocks."""
    monkeypatch.setattr(weight_ranking, "_MOST_WORK", 5 * 54**3 / blocks**2)
    b = Builder(channels=6, size=4)
    traced = trace(b.build(b.conv("input", "only", 6, 5)), "one")
    random = np.random.default_rng(0)
    mixed = np.einsum("oc,nchw->nohw", random.standard_normal((6, 3)), random.standard_normal((120, 3, 4, 4)))
    data = (mixed + 0.1 * random.standard_normal(mixed.shape)).astype(np.float32)
    grams = collect(traced, data[:80], 16, seed=0, every=True)
    repair = SparseReconstructor(traced, grams, 1e-3)
    errors = {}
    for method in ("reconstruction", "activation", "l1"):
        model = SparsePruner(traced, rank_weights(traced, method, grams), repair).prune(Policy((10, 1)))
        errors[method] = sum(np.square(run(model, x[None]) - run(traced.model, x[None])).sum() for x in data[80:])
    assert errors["reconstruction"] < (0.2 if blocks == 1 else 0.6) * min(errors["l1"], errors["activation"]), errors


def test_a_ranking_has_every_weight_once_on_any_number_of_threads():
    traced = grouped_and_shared()
    grams = collect(traced, images(traced, 8), 10, seed=0, every=True)
    seen = []
    ranking = rank_weights(traced, "reconstruction", grams, threads=3, progress=lambda *now: seen.append(now[:2]))
    again = rank_weights(traced, "reconstruction", grams)
    assert seen[-1] == (3, 3)
    for name, order in ranking.items():
        np.testing.assert_array_equal(np.sort(order), np.arange(traced.weight(name).size))
        np.testing.assert_array_equal(order, again[name])


def test_a_method_for_channels_is_refused():
    with pytest.raises(ConfigError, match="choose one of reconstruction, activation, l1"):
        rank_weights(chain(), "hrank")
    with pytest.raises(ConfigError, match="needs calibration images"):
        rank_weights(chain(), "reconstruction")


@pytest.mark.parametrize("build", [chain, residual, branches])
def test_a_refresh_comes_nearer_and_keeps_the_zeros(build):
    traced = build()
    data, fresh = images(traced, 300), images(traced, 40, seed=9)
    grams = collect(traced, data, 50, seed=0, every=True)
    pruner = SparsePruner(traced, repair=SparseReconstructor(traced, grams, 1e-4))
    policy = Policy(tuple(max(1, group.channels // 2) for group in pruner.network.groups))
    masks, whole = pruner.masks(policy), first_channels(traced.network.full())
    weights = pruner.weights(masks)
    better = refresh(traced, whole, weights, data, points_per_image=50, ridge=1e-4, seed=0, threads=1, masks=masks)
    assert all(not better[name][~mask].any() for name, mask in masks.items())
    errors = [
        sum(np.square(run(pruner.prune(policy, own), x[None]) - run(traced.model, x[None])).sum() for x in fresh)
        for own in (weights, better)
    ]
    assert errors[1] < errors[0]


def test_grams_of_channels_are_not_enough():
    traced = chain()
    with pytest.raises(DataError, match="lack"):
        SparseReconstructor(traced, collect(traced, images(traced, 4), 4, seed=0), 1e-3)


def test_products_that_are_stored_transposed():
    class Tokens(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.patch, self.up = torch.nn.Conv2d(3, 6, 2, 2), torch.nn.Linear(6, 10)
            self.down, self.head = torch.nn.Linear(10, 6), torch.nn.Linear(6, 4)

        def forward(self, x):
            x = self.patch(x).flatten(2).transpose(1, 2)
            return self.head(self.down(torch.relu(self.up(x))).mean(1))

    module = Tokens().eval()
    traced = trace(export(module, (3, 4, 4)), "tokens")
    data = np.random.default_rng(0).standard_normal((3, 3, 4, 4)).astype(np.float32)
    pruner = SparsePruner(
        traced, repair=SparseReconstructor(traced, collect(traced, data, 4, seed=0, every=True), 1e-3)
    )
    policy = policies(pruner.network, 1)
    assert parity(sparse_module(module, pruner, policy)[0], pruner.prune(policy), data) < 1e-5


def test_another_policy_or_module_is_refused():
    traced, pruner = NETWORKS[0]
    with pytest.raises(GraphError, match="sparse view"):
        pruner.prune(traced.network.full())
    with pytest.raises(GraphError, match="must keep"):
        pruner.prune(Policy((0, *pruner.network.full().kept[1:])))
    with pytest.raises(GraphError, match="no parameter"):
        sparse_module(torch.nn.Linear(2, 2), pruner, pruner.network.full())

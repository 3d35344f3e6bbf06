"""Rankings: a whole order for every group, and the channels that obviously do not matter at its end."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from amc_mobile.errors import ConfigError, RunFolderError
from amc_mobile.export.to_onnx import export
from amc_mobile.graph.trace import trace
from amc_mobile.prune import elimination
from amc_mobile.prune.importance import keep, rank
from amc_mobile.prune.ranking_file import load_ranking, save_ranking
from amc_mobile.types import Policy
from tests.prune.networks import branches, chain, grams_of, images, residual, share

METHODS = ["l1", "activation", "reconstruction", "fpgm", "hrank"]


def ranked(traced, method):
    return rank(traced, method, grams_of(traced), images=images(traced, 6))


def edited(traced, name: str, change):
    """The same network with one weight changed."""
    model = onnx.ModelProto()
    model.CopyFrom(traced.model)
    for tensor in model.graph.initializer:
        if tensor.name == name:
            array = numpy_helper.to_array(tensor).copy()
            change(array)
            tensor.CopyFrom(numpy_helper.from_array(array, name))
    return trace(model, traced.network.name)


def group_of(traced, producer: str):
    return next(group for group in traced.network.groups if producer in group.producers)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("build", [chain, residual, branches])
def test_every_order_is_whole(build, method):
    traced = build()
    ranking = ranked(traced, method)
    for group, order in zip(traced.network.groups, ranking, strict=True):
        assert sorted(order.tolist()) == list(range(group.channels))
        assert group.prunable or order.tolist() == list(range(group.channels))


@pytest.mark.parametrize("method", ["l1", "activation", "reconstruction"])
def test_a_channel_that_nobody_hears_is_last(method):
    def silence(weight):
        weight[:, 5] = 0.0

    traced = edited(chain(), "wide.weight", silence)
    assert rank(traced, method, grams_of(traced))[group_of(traced, "point").index][-1] == 5


@pytest.mark.parametrize("method", ["activation", "reconstruction", "hrank"])
def test_a_channel_that_says_nothing_is_last(method):
    def silence(array):
        array[3] = 0.0

    traced = edited(edited(chain(), "stem.weight", silence), "stem.bias", silence)
    assert ranked(traced, method)[group_of(traced, "stem").index][-1] == 3


def test_of_two_equal_channels_reconstruction_drops_one_first():
    def repeat(array):
        array[2] = array[7]

    traced = edited(edited(chain(), "stem.weight", repeat), "stem.bias", repeat)
    group = group_of(traced, "stem").index
    assert rank(traced, "reconstruction", grams_of(traced))[group][-1] in (2, 7)


def test_l1_is_the_norm_of_the_consumers():
    traced = chain()
    order = rank(traced, "l1")[group_of(traced, "stem").index]
    norms = np.abs(traced.weight("down.weight")).sum(axis=(0, 2, 3))
    assert order.tolist() == np.argsort(-norms).tolist()


def test_flattened_maps_add_up_over_their_positions():
    traced = chain()
    order = rank(traced, "l1")[group_of(traced, "wide").index]
    norms = np.abs(traced.weight("hidden.weight")).reshape(14, 6, 4).sum(axis=(0, 2))
    assert order.tolist() == np.argsort(-norms).tolist()


def test_wide_layers_are_ranked_without_a_gram_matrix(monkeypatch):
    traced = chain()
    grams = grams_of(traced)
    monkeypatch.setattr(elimination, "WIDEST_GRAM", 20)
    ranking = rank(traced, "reconstruction", grams)
    assert [sorted(order.tolist()) for order in ranking] == [list(range(g.channels)) for g in traced.network.groups]


def test_elimination_counts_what_the_rest_takes_over():
    """Losses by brute force: the residual of the best refit without each channel, from all rows."""
    random = np.random.default_rng(0)
    x = random.standard_normal((400, 6)) @ random.standard_normal((6, 6))
    weight = random.standard_normal((6, 3))
    consumer = elimination.RefittedConsumer(np.linalg.inv(x.T @ x), weight, 2, 400)
    for left in ([0, 1, 2], [0, 2]):
        expected = []
        for channel in left:
            rest = [2 * other + tap for other in left if other != channel for tap in (0, 1)]
            fitted = x[:, rest] @ np.linalg.lstsq(x[:, rest], x @ weight, rcond=None)[0]
            now = [2 * other + tap for other in left for tap in (0, 1)]
            before = x[:, now] @ np.linalg.lstsq(x[:, now], x @ weight, rcond=None)[0]
            expected.append((np.square(fitted - x @ weight).sum() - np.square(before - x @ weight).sum()) / 400)
        np.testing.assert_allclose(consumer.losses(), expected, rtol=1e-6)
        consumer.remove(np.array([1]))


def test_keep_takes_the_first_of_every_order():
    ranking = (np.array([2, 0, 3, 1]), np.array([1, 0]))
    kept = keep(Policy((3, 1)), ranking)
    assert [list(channels) for channels in kept] == [[0, 2, 3], [1]]


def test_smaller_policies_keep_subsets():
    traced = residual()
    ranking = rank(traced, "l1")
    small, large = keep(share(traced, 0.3), ranking), keep(share(traced, 0.7), ranking)
    assert all(set(one.tolist()) <= set(other.tolist()) for one, other in zip(small, large, strict=True))


def test_needs_images_or_a_known_name():
    with pytest.raises(ConfigError, match="needs calibration images"):
        rank(chain(), "activation")
    for method in ("hrank", "taylor"):
        with pytest.raises(ConfigError, match="needs calibration images"):
            rank(chain(), method, grams_of(chain()))
    with pytest.raises(ConfigError, match="bare ONNX file"):
        rank(chain(), "taylor", images=images(chain(), 2))
    with pytest.raises(ConfigError, match="reconstruction, activation, l1"):
        rank(chain(), "l2")


def test_fpgm_drops_the_filter_nearest_to_the_others():
    traced = chain()
    group = group_of(traced, "down")
    filters = traced.weight("down.weight").reshape(16, -1).astype(np.float64)
    distances = [sum(np.linalg.norm(one - other) for other in filters) for one in filters]
    assert rank(traced, "fpgm")[group.index].tolist() == np.argsort(-np.array(distances)).tolist()


def test_hrank_drops_maps_of_low_rank():
    """A channel that is the same everywhere has rank one; noise has full rank."""

    def flatten(weight):
        weight[4] = 0.0

    def lift(bias):
        bias[4] = 100.0

    traced = edited(edited(chain(), "stem.weight", flatten), "stem.bias", lift)
    assert ranked(traced, "hrank")[group_of(traced, "stem").index][-1] == 4


class Net(torch.nn.Module):
    """A grouped and a plain convolution, tokens, and two readers of one stream."""

    def __init__(self):
        super().__init__()
        self.stem, self.mid = torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.side, self.head = torch.nn.Conv2d(8, 8, 1), torch.nn.Linear(8, 4)
        self.up = torch.nn.Linear(8, 6)
        self.down = torch.nn.Linear(6, 8)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        x = torch.relu(self.mid(x)) + torch.relu(self.side(x))
        x = self.down(torch.relu(self.up(x.flatten(2).transpose(1, 2))))
        return self.head(x.mean(1))


def test_taylor_is_the_change_of_the_loss_to_first_order():
    """By finite differences: every unit of a group, scaled by 1 - epsilon wherever it is read."""
    torch.manual_seed(0)
    net = Net().double().eval()
    traced = trace(export(copy.deepcopy(net).float(), (3, 6, 6)), "net")
    data = torch.randn(5, 3, 6, 6, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 3, 0])
    ranking = rank(traced, "taylor", images=data.numpy(), labels=labels.numpy(), module=net)

    for producer, consumers, axis_size in (("stem", ("side", "mid"), 4), ("up", ("down",), 6)):
        group = next(group for group in traced.network.groups if producer in group.producers)
        scores = []
        for unit in range(group.channels):
            changed = copy.deepcopy(net)
            with torch.no_grad():
                for name in consumers:
                    weight = getattr(changed, name).weight
                    for place in range(unit, weight.shape[1], axis_size):
                        weight[:, place] *= 1 - 1e-6
                after = torch.nn.functional.cross_entropy(changed(data), labels, reduction="none")
                before = torch.nn.functional.cross_entropy(net(data), labels, reduction="none")
            scores.append(float((after - before).abs().sum()))
        assert group.channels == axis_size
        assert ranking[group.index].tolist() == np.argsort(-np.array(scores)).tolist()


def test_taylor_needs_layers_that_are_modules():
    net = Net().eval()
    traced = trace(export(net, (3, 6, 6)), "net")
    data = np.zeros((2, 3, 6, 6), np.float32)
    assert rank(traced, "taylor", images=data, module=net)
    with pytest.raises(ConfigError, match="finds no module"):
        rank(traced, "taylor", images=data, module=torch.nn.Identity())


def test_taylor_refuses_layers_that_another_module_computes_with():
    """As attention does with its projection: no hook would tell what it reads, and its heads would score nothing."""

    class Apart(Net):
        def forward(self, x):
            x = torch.relu(self.stem(x))
            x = torch.relu(self.mid(x)) + torch.relu(self.side(x))
            x = torch.nn.functional.linear(
                torch.relu(self.up(x.flatten(2).transpose(1, 2))), self.down.weight, self.down.bias
            )
            return self.head(x.mean(1))

    torch.manual_seed(0)
    net = Apart().eval()
    traced = trace(export(net, (3, 6, 6)), "net")
    with pytest.raises(ConfigError, match=r"does not see what down reads .1 such layers."):
        rank(traced, "taylor", images=np.ones((2, 3, 6, 6), np.float32), module=net)


def test_rankings_survive_the_disk_side_by_side(tmp_path):
    traced, path = chain(), tmp_path / "ranking.npz"
    sizes = [group.channels for group in traced.network.groups]
    assert load_ranking(path, "l1", sizes, "chain") is None
    kept = {method: rank(traced, method, grams_of(traced)) for method in ("l1", "activation")}
    for method, ranking in kept.items():
        save_ranking(path, method, ranking)
    for method, ranking in kept.items():
        loaded = load_ranking(path, method, sizes, "chain")
        assert all(np.array_equal(one, other) for one, other in zip(ranking, loaded, strict=True))
    assert load_ranking(path, "fpgm", sizes, "chain") is None
    with pytest.raises(RunFolderError, match="does not fit residual"):
        load_ranking(path, "l1", sizes[1:], "residual")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RunFolderError, match="damaged"):
        load_ranking(path, "l1", sizes, "chain")

"""A new classifier on a pruned backbone: found through the graph, as wide as the backbone is, loaded in one call."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from amc_mobile.errors import GraphError
from amc_mobile.export.to_onnx import export, parity
from amc_mobile.graph.trace import trace
from amc_mobile.models.zoo import find
from amc_mobile.prune.classifier import answering, classifiers, reclassify
from amc_mobile.prune.importance import keep, rank
from amc_mobile.prune.module import slice_module
from amc_mobile.prune.saved import load, save
from amc_mobile.runs import RunFolder
from tests.prune.networks import images, share

SHAPE = (3, 16, 16)


class Net(nn.Module):
    """A small backbone with the end that is given."""

    def __init__(self, end: nn.Module, width: int = 12) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, width, 3), nn.ReLU())
        self.classifier = end

    def forward(self, x):
        return self.classifier(self.features(x))


def dense(classes=5):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(12, classes))


def pointwise(classes=5):
    return nn.Sequential(nn.Dropout(0.5), nn.Conv2d(12, classes, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Sum(nn.Module):
    """Two classifiers that are added."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = dense(), pointwise()

    def forward(self, x):
        return self.one(x) + self.two(x)


def traced_of(module, name="net"):
    module.eval()
    return trace(export(module, SHAPE), name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("digits", "classifier"),
        ("resnet20", "linear"),
        ("squeezenet1_1", "classifier.1"),
        ("mobilenet_v2", "classifier.1"),
    ],
)
def test_the_classifier_of_known_networks_is_found_and_replaced(name, expected, module_of, exported):
    traced = trace(exported(name), name)
    assert classifiers(traced) == (expected,)
    policy = share(traced, 0.5)
    small = slice_module(module_of(name), traced, keep(policy, rank(traced, "l1")))
    before = {key: tensor.clone() for key, tensor in small.state_dict().items()}
    reclassify(small, (expected,), find(name).input_shape, 7, seed=0)
    after = small.state_dict()
    changed = {key for key in after if after[key].shape != before[key].shape}
    assert changed == {f"{expected}.weight", f"{expected}.bias"}
    assert after[f"{expected}.weight"].shape == (7, *before[f"{expected}.weight"].shape[1:])
    assert all(torch.equal(after[key], before[key]) for key in after.keys() - changed)
    head = small.get_submodule(expected)
    assert (head.out_channels if isinstance(head, nn.Conv2d) else head.out_features) == 7


@pytest.mark.parametrize(
    ("end", "names"),
    [
        (dense, {"classifier.3"}),
        (pointwise, {"classifier.1"}),
        (Sum, {"classifier.one.3", "classifier.two.1"}),
    ],
)
@pytest.mark.parametrize("classes", [2, 9])
def test_it_answers_the_new_classes_and_exports(end, names, classes):
    module = Net(end())
    traced = traced_of(module)
    assert set(classifiers(traced)) == names
    small = slice_module(module, traced, keep(share(traced, 0.5), rank(traced, "l1")))
    reclassify(small, classifiers(traced), SHAPE, classes, seed=3)
    noise = images(traced, 3)
    assert small(torch.from_numpy(noise)).shape == (3, classes)
    assert parity(small, export(small, SHAPE), noise) < 1e-5
    assert small.features[2].out_channels == 6


def test_the_seed_decides_about_the_new_weights_and_leaves_the_generator_alone():
    made = []
    for seed in (1, 1, 2):
        module = Net(dense())
        torch.manual_seed(4)
        expected = torch.rand(1)
        torch.manual_seed(4)
        reclassify(module, ("classifier.3",), SHAPE, 4, seed=seed)
        assert torch.equal(torch.rand(1), expected)
        made.append(module.classifier[3].weight)
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_a_classifier_without_bias_stays_without():
    module = Net(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5, bias=False))).eval()
    reclassify(module, ("classifier.2",), SHAPE, 3, seed=0)
    assert module.classifier[2].bias is None


def test_load_brings_the_new_classifier_back(tmp_path, module_of, exported):
    traced = trace(exported("resnet20"), "resnet20")
    channels = keep(share(traced, 0.6), rank(traced, "l1"))
    small = slice_module(module_of("resnet20"), traced, channels)
    entry = replace(find("resnet20"), classes=4)
    reclassify(small, classifiers(traced), entry.input_shape, 4, seed=0)
    network, stay = answering(traced, channels, 4)
    folder = RunFolder(tmp_path).create()
    save(folder, small, entry, network, stay)
    noise = torch.from_numpy(images(traced, 3))
    with torch.inference_mode():
        assert torch.equal(load(tmp_path)(noise), small(noise))
    policy = json.loads(folder.policy.read_text())
    assert policy["classes"] == 4
    assert [(group["channels"], group["kept"]) for group in policy["groups"] if group["name"] == "linear"] == [(4, 4)]


class Pooled(nn.Module):
    """Answers of no layer: half of the channels minus the other half."""

    def forward(self, x):
        x = x.mean((2, 3))
        return x[:, :6] - x[:, 6:]


class Counted(nn.Module):
    """Its code knows how many classes there are."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(12, 5)

    def forward(self, x):
        return self.fc(x.mean((2, 3))).view(-1, 5)


@pytest.mark.parametrize("end", [Pooled(), nn.Sequential(nn.Conv2d(12, 5, 12), nn.Flatten())])
def test_a_network_that_ends_otherwise_is_refused(end):
    with pytest.raises(GraphError, match="classifier cannot be replaced"):
        classifiers(traced_of(Net(end)))


def test_code_that_knows_its_classes_is_refused_in_one_line():
    module = Net(Counted())
    traced = traced_of(module)
    with pytest.raises(GraphError, match="must not say how many classes") as caught:
        reclassify(copy.deepcopy(module), classifiers(traced), SHAPE, 3, seed=0)
    assert "\n" not in str(caught.value)


def test_only_layers_that_are_understood_are_replaced():
    with pytest.raises(GraphError, match="only Linear and Conv2d"):
        reclassify(Net(dense()), ("features.1",), SHAPE, 3, seed=0)

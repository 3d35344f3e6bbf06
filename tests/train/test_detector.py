"""Training of a detector: it learns, the same again from the same seed, and goes on where it was stopped."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from amc_mobile.errors import ConfigError, DataError
from amc_mobile.models.data import open_data
from amc_mobile.models.objects import Objects, as_labels
from amc_mobile.models.zoo import find
from amc_mobile.runs import read_json
from amc_mobile.sections.finetune import FinetuneConfig
from amc_mobile.sections.train import TrainConfig
from amc_mobile.train.augment import Changes
from amc_mobile.train.batches import InMemory
from amc_mobile.train.detector import _Run, fit_detector

ENTRY = find("ssdlite_mobilenet_v3_small", image_size=64)
SETTINGS = TrainConfig(epochs=2, batch_size=4, learning_rate=0.05, flip=True, shift=4)


@pytest.fixture(scope="module")
def lessons():
    data = open_data("shapes")
    chosen = np.arange(8)
    return InMemory(data.tensors(chosen, ENTRY.preprocessing)), data.labels[chosen]


def fresh():
    torch.manual_seed(0)
    return ENTRY.build()


def test_losses_fall(lessons, tmp_path):
    settings = TrainConfig(epochs=12, batch_size=8, learning_rate=0.05, shift=0, warmup=0.0, ema=0.0)
    module = fit_detector(fresh(), *lessons, settings, seed=0, record=tmp_path / "train.json")
    assert not module.training
    losses = [epoch["loss"] for epoch in read_json(tmp_path / "train.json")["epochs"]]
    assert len(losses) == 12
    assert losses[-1] < 0.75 * losses[0]


class Stop(Exception):
    pass


def test_a_resumed_training_equals_an_uninterrupted_one(lessons, tmp_path):
    whole = fit_detector(fresh(), *lessons, SETTINGS, seed=3).state_dict()

    def stop(done, total, text):
        if done == 3:  # in the second of two epochs of two steps
            raise Stop

    path = tmp_path / "train.partial"
    with pytest.raises(Stop):
        fit_detector(fresh(), *lessons, SETTINGS, seed=3, progress=stop, checkpoint=path)
    steps = []
    resumed = fit_detector(
        fresh(), *lessons, SETTINGS, seed=3, progress=lambda done, *_: steps.append(done), checkpoint=path
    )
    assert steps == [3, 4]
    assert all(torch.equal(value, whole[name]) for name, value in resumed.state_dict().items())
    other = fit_detector(fresh(), *lessons, SETTINGS, seed=4).state_dict()
    assert any(not torch.equal(value, whole[name]) for name, value in other.items())


def test_boxes_follow_their_pictures(lessons):
    labels = as_labels([Objects.of([(0.25, 0.5, 0.5, 0.75), (0.9, 0.9, 1.0, 1.0)], [0, 1], [False, True])] * 8)
    run = _Run(fresh(), lessons[0], labels, SETTINGS, 0)
    moved = Changes(4, torch.tensor([[4, 4], [0, 8]]), torch.tensor([False, True]))  # 4: not moved; (top, left)
    still, changed = run._changed(torch.tensor([0, 1]), moved)
    assert still["boxes"].tolist() == [[16, 32, 32, 48]]  # what is ignored is not learnt
    assert changed["boxes"].tolist() == [[64 - 28, 36, 64 - 12, 52]]
    assert changed["labels"].tolist() == [1]


def test_what_must_not_change_is_put_right_after_every_step(lessons):
    """As the zeros of fine-grained pruning; the average of the weights sees it, too."""
    name = "backbone.features.0.0.0.weight"

    def emptied(module):
        with torch.no_grad():
            module.get_parameter(name)[0].zero_()

    module = fresh()
    emptied(module)
    after = fit_detector(module, *lessons, SETTINGS, seed=0, after_step=emptied).state_dict()[name]
    assert not after[0].any()
    assert after[1].any()


def test_gradients_are_cut_to_the_norm_that_is_asked_for(lessons):
    start, clipped = fresh().state_dict(), SETTINGS.model_copy(update={"clip": 1e-6, "ema": 0.0, "weight_decay": 0.0})
    after = fit_detector(fresh(), *lessons, clipped, seed=0).state_dict()
    name = "backbone.features.0.0.0.weight"
    assert 0 < torch.dist(after[name], start[name]) < 1e-6


@pytest.mark.slow
def test_faster_rcnn_learns_too():
    entry = find("fasterrcnn_mobilenet_v3_large_320_fpn", 3, 64)
    data = open_data("shapes")
    torch.manual_seed(0)
    module = entry.build()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    images = InMemory(data.tensors(np.arange(2), entry.preprocessing))
    settings = TrainConfig(epochs=1, batch_size=2, learning_rate=1e-2)
    after = fit_detector(module, images, data.labels[:2], settings, seed=0).state_dict()
    assert not torch.equal(after["backbone.body.0.0.weight"], before["backbone.body.0.0.weight"])
    assert all(bool(torch.isfinite(value).all()) for value in after.values() if value.is_floating_point())


def test_what_cannot_be_trained_is_refused(lessons):
    with pytest.raises(DataError, match="no training images"):
        fit_detector(fresh(), InMemory(np.zeros((0, 3, 64, 64))), as_labels([]), SETTINGS, seed=0)
    for setting in ({"validation_images": 2}, {"precision": "bf16"}, {"label_smoothing": 0.1}, {"reestimate": 8}):
        with pytest.raises(ConfigError, match=f"{next(iter(setting))}: for classifiers only"):
            fit_detector(fresh(), *lessons, SETTINGS.model_copy(update=setting), seed=0)
    assert FinetuneConfig().of_classifiers() == FinetuneConfig(distillation=0.0, clip=1.0).of_classifiers() == ()
    assert FinetuneConfig(distillation=0.9, temperature=4.0).of_classifiers() == ("distillation", "temperature")
    wild = SETTINGS.model_copy(update={"learning_rate": 1e9, "epochs": 4})
    with pytest.raises(ConfigError, match=r"training diverged.*lower train\.learning_rate"):
        fit_detector(fresh(), *lessons, wild, seed=0)


def test_frozen_parts_keep_their_statistics(lessons):
    module = fresh()
    for part in (module.backbone.extra, module.backbone.features[1]):
        part.requires_grad_(False)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    after = fit_detector(module, *lessons, SETTINGS, seed=0).state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert not any(name.startswith(("backbone.extra", "backbone.features.1")) for name in changed)
    assert any(name.startswith("backbone.features.0") and name.endswith("running_mean") for name in changed)

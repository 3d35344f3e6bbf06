"""Training learns, imitates, resumes bit for bit, and stops in one line when it cannot go on."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from amc_mobile.errors import ConfigError, DataError
from amc_mobile.train.fit import fit
from tests.train.networks import IMAGES, LABELS, PLAIN, Tiny, accuracy, same


def test_it_learns_and_says_how_far_it_is():
    heard = []
    module = Tiny()
    trained = fit(module, IMAGES, LABELS, PLAIN, seed=1, progress=lambda *news: heard.append(news))
    assert trained is module
    assert not trained.training
    assert accuracy(trained) > 0.95
    assert [(done, total) for done, total, _ in heard] == [(step, 32) for step in range(1, 33)]
    assert heard[-1][2].startswith("epoch 4 of 4, loss 0.")


def test_the_same_seed_gives_the_same_network_and_leaves_the_generator_alone():
    torch.manual_seed(4)
    expected = torch.rand(1)
    module = Tiny()
    torch.manual_seed(4)
    first = fit(module, IMAGES, LABELS, PLAIN, seed=1)
    assert torch.equal(torch.rand(1), expected)
    assert same(first, fit(Tiny(), IMAGES, LABELS, PLAIN, seed=1))
    assert not same(first, fit(Tiny(), IMAGES, LABELS, PLAIN, seed=2))


class StoppedError(Exception):
    """Stands for Ctrl-C."""


def stop_at(step):
    def progress(done, total, what):
        if done == step:
            raise StoppedError

    return progress


@pytest.mark.parametrize("step", [3, 8, 21])
def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path, step):
    settings = PLAIN.model_copy(update={"shift": 1, "flip": True})
    whole = fit(Tiny(), IMAGES, LABELS, settings, seed=1)
    checkpoint = tmp_path / "train.partial"
    interrupted = Tiny()
    with pytest.raises(StoppedError):
        fit(interrupted, IMAGES, LABELS, settings, seed=1, progress=stop_at(step), checkpoint=checkpoint)
    assert not interrupted.training
    assert checkpoint.exists() == (step > 8)
    heard = []
    resumed = fit(
        Tiny(),
        IMAGES,
        LABELS,
        settings,
        seed=1,
        checkpoint=checkpoint,
        progress=lambda done, *_: heard.append(done),
    )
    assert heard[0] == (step - 1) // 8 * 8 + 1
    assert same(resumed, whole)
    assert [path.name for path in tmp_path.iterdir()] == ["train.partial"]


def test_a_finished_training_is_not_repeated(tmp_path):
    checkpoint = tmp_path / "train.partial"
    whole = fit(Tiny(), IMAGES, LABELS, PLAIN, seed=1, checkpoint=checkpoint)
    again = fit(Tiny(), IMAGES, LABELS, PLAIN, seed=1, checkpoint=checkpoint, progress=stop_at(1))
    assert same(again, whole)


@pytest.mark.parametrize("change", [{"seed": 2}, {"learning_rate": 0.04}, {"weights": 1.0}, {"images": 1.0}])
def test_the_checkpoint_of_another_training_is_not_used(tmp_path, change):
    checkpoint = tmp_path / "train.partial"
    fit(Tiny(), IMAGES, LABELS, PLAIN, seed=1, checkpoint=checkpoint)
    module, images, settings = Tiny(), IMAGES, PLAIN
    if "weights" in change:
        module.fc.bias.data += change["weights"]
    if "images" in change:
        images = IMAGES + change["images"]
    if "learning_rate" in change:
        settings = PLAIN.model_copy(update=change)
    steps = []
    fit(
        module,
        images,
        LABELS,
        settings,
        seed=change.get("seed", 1),
        checkpoint=checkpoint,
        progress=lambda done, *_: steps.append(done),
    )
    assert len(steps) == 32


@pytest.mark.parametrize("content", [b"", b"no checkpoint", None])
def test_a_damaged_checkpoint_is_not_used(tmp_path, content):
    checkpoint = tmp_path / "train.partial"
    whole = fit(Tiny(), IMAGES, LABELS, PLAIN, seed=1, checkpoint=checkpoint)
    checkpoint.write_bytes(checkpoint.read_bytes()[:900] if content is None else content)
    assert same(fit(Tiny(), IMAGES, LABELS, PLAIN, seed=1, checkpoint=checkpoint), whole)


def test_a_teacher_alone_is_imitated():
    teacher = fit(Tiny(), IMAGES, LABELS, PLAIN, seed=1)
    before = copy.deepcopy(teacher.state_dict())
    student = Tiny()
    nn.init.normal_(student.fc.weight)
    wrong = 1 - LABELS  # of no consequence when the loss only imitates
    settings = PLAIN.model_copy(update={"distillation": 1.0, "epochs": 8})
    fit(student, IMAGES, wrong, settings, seed=1, teacher=teacher)
    assert accuracy(student) > 0.95
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())


def test_frozen_parameters_stay():
    module = Tiny()
    module.conv.weight.requires_grad_(False)
    before = module.conv.weight.clone()
    fit(module, IMAGES, LABELS, PLAIN, seed=1)
    assert torch.equal(module.conv.weight, before)


def test_fewer_images_than_a_batch_are_one_batch():
    steps = []
    fit(Tiny(), IMAGES[:5], LABELS[:5], PLAIN, seed=1, progress=lambda done, *_: steps.append(done))
    assert steps == [1, 2, 3, 4]


def test_what_cannot_go_on_says_so():
    with pytest.raises(DataError, match="no training images"):
        fit(Tiny(), IMAGES[:0], LABELS[:0], PLAIN, seed=1)
    broken = IMAGES.copy()
    broken[:] = np.inf
    with pytest.raises(
        ConfigError, match=r"training diverged in epoch 1: the loss is nan; lower finetune\.learning_rate"
    ):
        fit(Tiny(), broken, LABELS, PLAIN, seed=1)

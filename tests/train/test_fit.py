"""Training learns, imitates, resumes bit for bit, and stops in one line when it cannot go on."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from amc_mobile.config import FinetuneConfig
from amc_mobile.errors import ConfigError, DataError
from amc_mobile.train.fit import _augmented, _schedule, fit

PLAIN = FinetuneConfig(epochs=4, learning_rate=0.05, batch_size=8, distillation=0.0, shift=0)


class Tiny(nn.Module):
    """A convolution, a batch norm, dropout and a linear layer for (N, 1, 8, 8): two classes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv2d(1, 6, 3, bias=False), nn.BatchNorm2d(6)
        self.drop, self.fc = nn.Dropout(0.1), nn.Linear(6, 2)

    def forward(self, x):
        return self.fc(self.drop(torch.relu(self.norm(self.conv(x))).mean((2, 3))))


def stripes(count=64):
    """Images with vertical (0) or horizontal (1) stripes and a little noise."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, count)
    images = generator.normal(0, 0.3, (count, 1, 8, 8)).astype(np.float32)
    images[labels == 0] += np.tile([1.0, -1.0], 4).astype(np.float32)[None, None, None, :]
    images[labels == 1] += np.tile([1.0, -1.0], 4).astype(np.float32)[None, None, :, None]
    return images, labels


IMAGES, LABELS = stripes()


def accuracy(module):
    with torch.inference_mode():
        return float((module(torch.from_numpy(IMAGES)).argmax(1).numpy() == LABELS).mean())


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


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


@given(st.integers(0, 3), st.booleans(), st.integers(0, 9))
def test_augmented_images_are_moved_or_mirrored_ones(shift, flip, seed):
    images = torch.arange(2 * 36, dtype=torch.float32).reshape(2, 1, 6, 6)
    torch.manual_seed(seed)
    answer = _augmented(images, FinetuneConfig(shift=shift, flip=flip))
    padded = nn.functional.pad(images, [shift] * 4, mode="replicate")
    size = range(2 * shift + 1)
    for index in range(2):
        moved = [padded[index, :, top : top + 6, left : left + 6] for top in size for left in size]
        choices = moved + [choice.flip(-1) for choice in moved if flip]
        assert any(torch.equal(answer[index], choice) for choice in choices)


def test_the_learning_rate_rises_and_falls():
    values = [_schedule(step / 100) for step in range(100)]
    peak = values.index(max(values))
    assert values[peak] == 1
    assert values[: peak + 1] == sorted(values[: peak + 1])
    assert values[peak:] == sorted(values[peak:], reverse=True)
    assert 0 < values[-1] < 0.01

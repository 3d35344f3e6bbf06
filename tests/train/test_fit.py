"""Training learns, imitates, resumes bit for bit, and stops in one line when it cannot go on."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn

from amc_mobile.errors import ConfigError, DataError
from amc_mobile.sections.train import TrainConfig
from amc_mobile.train import fit as training
from amc_mobile.train.average import WeightAverage
from amc_mobile.train.fit import fit
from amc_mobile.train.validation import set_aside
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


EVERYTHING = {
    "shift": 1,
    "flip": True,
    "ema": 0.9,
    "label_smoothing": 0.1,
    "validation_images": 8,
    "patience": 3,
    "reestimate": 16,
    "precision": "bf16",
    "batch_size": 7,
}


@pytest.mark.parametrize("changes", [{"shift": 1, "flip": True}, EVERYTHING], ids=["plain", "everything"])
@pytest.mark.parametrize("step", [3, 8, 21])
def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path, step, changes):
    settings = PLAIN.model_copy(update=changes)
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


def test_a_finished_training_is_not_repeated_and_on_record(tmp_path):
    checkpoint, record = tmp_path / "train.partial", tmp_path / "train.json"
    whole = fit(Tiny(), IMAGES, LABELS, PLAIN, seed=1, checkpoint=checkpoint)
    again = fit(Tiny(), IMAGES, LABELS, PLAIN, seed=1, checkpoint=checkpoint, record=record, progress=stop_at(1))
    assert same(again, whole)
    assert len(json.loads(record.read_text())["epochs"]) == 4


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
    assert not teacher.training
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


def trained(**changes):
    return fit(Tiny(), IMAGES, LABELS, PLAIN.model_copy(update=changes), seed=1)


def recorded(tmp_path, **changes):
    path = tmp_path / "record.json"
    module = fit(Tiny(), IMAGES, LABELS, PLAIN.model_copy(update=changes), seed=1, record=path)
    return module, json.loads(path.read_text())


def test_smoothed_labels_are_the_formulas(monkeypatch):
    """One step from a known start: the loss on record is the cross entropy with (1 - s) of one class and s of all."""
    module = Tiny().train()
    module.drop.p = 0.0
    seen = []
    fit(
        copy.deepcopy(module),
        IMAGES[:5],
        LABELS[:5],
        PLAIN.model_copy(update={"epochs": 1, "label_smoothing": 0.3}),
        seed=1,
        progress=lambda *news: seen.append(news[2]),
    )
    logs = torch.log_softmax(module(torch.from_numpy(IMAGES[:5])), 1).detach()
    wanted = torch.full_like(logs, 0.3 / 2)
    wanted[torch.arange(5), torch.from_numpy(LABELS[:5])] += 0.7
    assert seen == [f"epoch 1 of 1, loss {float(-(wanted * logs).sum(1).mean()):.3f}"]


def test_the_average_of_the_weights_is_what_counts():
    last, average = trained(), trained(ema=0.99)
    states = []
    fit(Tiny(), IMAGES, LABELS, PLAIN, seed=1, after_step=lambda module: states.append(copy.deepcopy(module)))
    expected = WeightAverage(Tiny(), 0.99)
    for module in states:
        expected.update(module)
    assert same(last, states[-1])
    assert same(average, expected.network)


def test_the_best_epoch_comes_back(tmp_path, monkeypatch):
    """Accuracies are dictated: the second of five epochs is the best, and two later ones are enough."""
    told = iter([0.5, 0.75, 0.75, 0.6, 0.9])
    monkeypatch.setattr(training._Run, "_accuracy", lambda self: next(told))
    module, record = recorded(tmp_path, epochs=5, validation_images=8, patience=2)
    assert [epoch["validation_accuracy"] for epoch in record["epochs"]] == [0.5, 0.75, 0.75, 0.6]
    assert (record["best_epoch"], record["stopped_early"], record["asked_epochs"]) == (2, True, 5)
    told = iter([0.5, 0.75])
    path = tmp_path / "second.partial"
    with pytest.raises(StoppedError):
        fit(
            Tiny(),
            IMAGES,
            LABELS,
            PLAIN.model_copy(update={"epochs": 5, "validation_images": 8, "patience": 2}),
            seed=1,
            progress=stop_at(15),
            checkpoint=path,
        )
    second = torch.load(path, weights_only=True)["stepper"]["module"]
    assert all(torch.equal(tensor, second[name]) for name, tensor in module.state_dict().items())


class Helped(Tiny):
    """Answers a second time from within while it is trained, as GoogLeNet and Inception do."""

    def forward(self, x):
        logits = super().forward(x)
        return (logits, logits.detach()) if self.training else logits


def test_auxiliary_answers_of_training_mode_are_left_alone():
    settings = PLAIN.model_copy(update={"epochs": 1, "distillation": 0.5, "validation_images": 8})
    plain, helped = (fit(kind(), IMAGES, LABELS, settings, seed=1, teacher=kind()) for kind in (Tiny, Helped))
    assert same(plain, helped)


def test_validation_images_are_counted_right_and_train_nothing(tmp_path):
    module, record = recorded(tmp_path, epochs=1, validation_images=16)
    _, aside = set_aside(len(IMAGES), 16, 1)
    with torch.inference_mode():
        right = (module(torch.from_numpy(IMAGES[aside])).argmax(1).numpy() == LABELS[aside]).mean()
    assert record["epochs"][0]["validation_accuracy"] == right
    assert (record["images"], record["validation_images"]) == (48, 16)
    images = IMAGES.copy()
    images[aside] = np.nan
    assert same(
        module, fit(Tiny(), images, LABELS, PLAIN.model_copy(update={"epochs": 1, "validation_images": 16}), seed=1)
    )


def test_the_record_tells_rates_and_losses(tmp_path):
    _, record = recorded(tmp_path, warmup=0.25)
    assert [epoch["number"] for epoch in record["epochs"]] == [1, 2, 3, 4]
    rates = [epoch["learning_rate"] for epoch in record["epochs"]]
    assert rates[1:] == sorted(rates[1:], reverse=True) and rates[0] < 0.05
    assert record["epochs"][-1]["loss"] < record["epochs"][0]["loss"]
    assert (record["precision"], record["processes"], record["batch_norms"]) == ("fp32", 1, "trained")


@pytest.mark.parametrize("setting", ["frozen", "auto"])
def test_frozen_batch_norms_keep_their_statistics_and_learn_their_scale(setting):
    module = Tiny()  # freshly built: nothing was ever estimated, so that "auto" freezes
    fit(module, IMAGES, LABELS, PLAIN.model_copy(update={"batch_norm": setting}), seed=1)
    assert torch.equal(module.norm.running_mean, torch.zeros(6))
    assert torch.equal(module.norm.running_var, torch.ones(6))
    assert module.norm.num_batches_tracked == 0
    assert not torch.equal(module.norm.weight, torch.ones(6))


def test_training_from_scratch_always_estimates(tmp_path):
    module = Tiny()
    settings = TrainConfig(epochs=1, batch_size=8)
    fit(module, IMAGES, LABELS, settings, seed=1)
    assert not torch.equal(module.norm.running_var, torch.ones(6))


def test_statistics_are_taken_anew_at_the_end():
    module = trained(ema=0.99, reestimate=1000, batch_norm="train", batch_size=64)
    with torch.no_grad():
        inputs = module.conv(torch.from_numpy(IMAGES))
    torch.testing.assert_close(module.norm.running_mean, inputs.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(module.norm.running_var, inputs.var((0, 2, 3)), rtol=1e-4, atol=1e-5)


def test_sixteen_bits_train_too_and_fp16_needs_a_gpu(tmp_path):
    module, record = recorded(tmp_path, precision="bf16")
    assert record["precision"] == "bf16"
    assert accuracy(module) > 0.95 and module.fc.weight.dtype == torch.float32
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="fp16 needs a GPU"):
            trained(precision="fp16")

"""`amc transfer`: a finished run's pruned backbone on other images, resumable, and refused in one line."""

from __future__ import annotations

import json
import shutil
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from amc_mobile.cli import main, transferring
from amc_mobile.cli.transfer import folder_name
from amc_mobile.models import zoo
from amc_mobile.prune.saved import load
from amc_mobile.runs import read_json

ALL = "original,uniform,scratch"
QUICK = ("--epochs", 1)


@pytest.fixture(scope="session")
def shapes(tmp_path_factory) -> Path:
    """Coloured pictures of another size: a bright square in one of three corners."""
    generator = np.random.default_rng(0)
    labels = np.arange(84) % 3
    images = generator.integers(0, 90, (84, 20, 20, 3), np.uint8)
    for image, (top, left) in zip(images, [((0, 0), (0, 12), (12, 0))[label] for label in labels], strict=True):
        image[top : top + 8, left : left + 8] += 150
    path = tmp_path_factory.mktemp("other") / "shapes.npz"
    np.savez(path, images=images, labels=labels)
    return path


@pytest.fixture(scope="session")
def transferred(finished, shapes, tmp_path_factory) -> Path:
    """The run with a finished transfer in it, against everything. Read it only."""
    run = Path(shutil.copytree(finished, tmp_path_factory.mktemp("transfer") / "run"))
    line = ["transfer", run, "--data", shapes, *QUICK, "--against", ALL]
    assert main.run([str(part) for part in line]) == 0
    return run


def logits(path: Path, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"input": image[None]})[0] for image in images])


def test_each_network_loads_with_the_new_classes_and_its_own_widths(transferred):
    folder = transferred / "transfer" / "shapes"
    images = np.random.default_rng(0).standard_normal((4, 1, 32, 32)).astype(np.float32)
    widths = {"": load(transferred), "scratch": load(transferred)}
    for name in ("", "original", "uniform", "scratch"):
        place, module = folder / name, load(folder / name)
        with torch.inference_mode():
            answer = module(torch.from_numpy(images)).numpy()
        assert answer.shape == (4, 3)
        np.testing.assert_allclose(logits(place / "model.onnx", images), answer, rtol=0, atol=1e-3 * abs(answer).max())
        policy = read_json(place / "policy.json")
        assert policy["classes"] == 3
        assert policy["groups"][-1]["kept"] == policy["groups"][-1]["channels"] == 3
        shapes = {key: tensor.shape for key, tensor in module.state_dict().items() if "classifier" not in key}
        whole = load(transferred) if name in widths else None
        if whole is not None:
            assert shapes == {key: shapes[key] for key in whole.state_dict() if "classifier" not in key}
            assert all(whole.state_dict()[key].shape == shape for key, shape in shapes.items())
        assert module.classifier.in_features == module.hidden.out_features


def test_transfer_json_compares_on_the_same_images(transferred):
    folder = transferred / "transfer" / "shapes"
    found = read_json(folder / "transfer.json")
    assert (found["classes"], found["train_images"], found["test_images"]) == (3, 63, 21)
    assert found["seeds"] == [0]
    by_name = {each["name"]: each for each in found["contenders"]}
    assert list(by_name) == ["pruned", "original", "uniform", "scratch"]
    for name, each in by_name.items():
        for seed, top1 in zip(found["seeds"], each["top1"], strict=True):
            answers = read_json(folder / "answers" / f"{name}-{seed}.json")
            assert top1 == pytest.approx(1 - len(answers["wrong"]) / 21)
        low, high = each["top1_ci"]
        assert low <= each["top1"][0] <= high
        assert each["parity"] < 1e-4
        assert each["latency_us"] > 0
    for gap in found["gaps"]:
        assert gap["differences"] == pytest.approx(
            [
                ours - theirs
                for ours, theirs in zip(by_name["pruned"]["top1"], by_name[gap["against"]]["top1"], strict=True)
            ]
        )
    assert by_name["pruned"]["macs"] < by_name["original"]["macs"]
    assert by_name["scratch"]["macs"] == by_name["pruned"]["macs"]
    assert by_name["scratch"]["latency_us"] == by_name["pruned"]["latency_us"]
    assert found["device"]["provider"] == "CPUExecutionProvider"


def test_the_folder_is_told_and_reported(transferred, amc, shapes):
    folder = transferred / "transfer" / "shapes"
    settings = tomllib.loads((folder / "config.toml").read_text())
    assert settings["finetune"]["epochs"] == 1
    assert settings["finetune"]["learning_rate"] == 0.05
    assert settings["against"] == ALL.split(",")
    page = (folder / "report.html").read_text()
    assert page.count("<svg viewBox") == 1
    assert "uniform pruning, same budget" in page
    line = ("transfer", transferred, "--data", shapes, *QUICK, "--against", ALL)
    answer = amc(*line)
    assert answer.code == 0
    assert "4 of 4 trainings done before" in answer.err
    assert [row.split("  ")[0] for row in answer.out.splitlines()[:5]] == [
        "network", "pruned", "original", "uniform pruning, same budget", "pruned shape from random weights",
    ]  # fmt: skip
    assert amc(*line, "--json").json() == read_json(folder / "transfer.json")
    assert {row["done"] for row in amc(*line, "--dry-run", "--json").json()["trainings"]} == {True}


def test_another_device_times_the_same_networks_anew(transferred, amc, shapes, tmp_path):
    run = Path(shutil.copytree(transferred, tmp_path / "run"))
    file = tmp_path / "int8.toml"
    file.write_text('[device]\nprecision = "int8"\n', encoding="utf-8")
    line = ("transfer", run, "--data", shapes, *QUICK, "--against", "original", "--config", file)
    answer = amc(*line, "--json")
    assert answer.code == 0
    assert "2 of 2 trainings done before" in answer.err
    assert answer.json()["device"]["precision"] == "int8"
    assert "accuracies are those of the float networks" in (run / "transfer" / "shapes" / "report.html").read_text()
    timing = run / "transfer" / "shapes" / "timing.json"
    before = timing.read_bytes()
    assert amc(*line).code == 0
    assert timing.read_bytes() == before  # what was timed is not timed again


def test_more_seeds_and_opponents_keep_what_is_done(transferred, amc, shapes, tmp_path):
    run = Path(shutil.copytree(transferred, tmp_path / "run"))
    folder = run / "transfer" / "shapes"
    before = (folder / "weights.pt").read_bytes()
    answer = amc("transfer", run, "--data", shapes, *QUICK, "--seeds", 2, "--no-bench")
    assert answer.code == 0
    assert "1 of 2 trainings done before" in answer.err
    assert (folder / "weights.pt").read_bytes() == before
    found = read_json(folder / "transfer.json")
    assert [(each["name"], len(each["top1"])) for each in found["contenders"]] == [("pruned", 2)]
    assert found["device"] is None
    assert "--no-bench" in (folder / "report.html").read_text()
    changed = amc("transfer", run, "--data", shapes, "--epochs", 2, "--no-bench")
    assert (changed.code, "made with other settings" in changed.last_line) == (1, True)
    assert "finetune.epochs 1 -> 2" in changed.last_line
    assert (folder / "weights.pt").read_bytes() == before
    again = amc("transfer", run, "--data", shapes, "--epochs", 2, "--no-bench", "--update")
    assert again.code == 0
    assert (folder / "weights.pt").read_bytes() != before


def test_an_interrupted_training_goes_on_to_the_same_weights(run_folder, amc, shapes, tmp_path, monkeypatch):
    other = Path(shutil.copytree(run_folder, tmp_path / "other"))
    line = ("--data", shapes, "--epochs", 3, "--no-bench")
    assert amc("transfer", other, *line).code == 0
    keep = transferring.Trainings._keep

    def stop(*_):
        raise main._Interrupted

    monkeypatch.setattr(transferring.Trainings, "_keep", stop)
    broken = amc("transfer", run_folder, *line)
    assert (broken.code, broken.last_line) == (130, "amc: interrupted; type the same command again to resume")
    place = run_folder / "transfer" / "shapes"
    assert (place / "pruned-0.partial").is_file()
    assert not (place / "weights.pt").exists()
    monkeypatch.setattr(transferring.Trainings, "_keep", keep)
    assert amc("transfer", run_folder, *line).code == 0
    assert not list(place.glob("*.partial"))
    whole, resumed = (load(folder / "transfer" / "shapes").state_dict() for folder in (other, run_folder))
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    answers = [
        read_json(folder / "transfer" / "shapes" / "answers" / "pruned-0.json") for folder in (other, run_folder)
    ]
    assert answers[0]["wrong"] == answers[1]["wrong"]


def test_fresh_starts_over_and_leaves_other_files(transferred, amc, shapes, tmp_path):
    run = Path(shutil.copytree(transferred, tmp_path / "run"))
    folder = run / "transfer" / "shapes"
    (folder / "notes.txt").write_text("mine")
    assert amc("transfer", run, "--data", shapes, *QUICK, "--no-bench", "--fresh").code == 0
    assert (folder / "notes.txt").read_text() == "mine"
    assert not (folder / "uniform" / "weights.pt").exists()
    assert sorted(path.name for path in (folder / "answers").iterdir()) == ["pruned-0.json"]


def test_settings_come_from_the_run_a_file_and_the_line(run_folder, amc, shapes, tmp_path):
    file = tmp_path / "more.toml"
    file.write_text("seeds = 3\n[finetune]\nflip = true\nepochs = 4\n", encoding="utf-8")
    answer = amc("transfer", run_folder, "--data", shapes, "--config", file, "--epochs", 2, "--dry-run", "--json")
    plan = answer.json()
    assert (plan["epochs"], len(plan["trainings"])) == (2, 3)
    file.write_text("[finetune]\ndistillation = 0.5\n", encoding="utf-8")
    refused = amc("transfer", run_folder, "--data", shapes, "--config", file, "--dry-run")
    assert "finetune.distillation" in refused.last_line
    file.write_text("[search]\nepisodes = 5\n", encoding="utf-8")
    refused = amc("transfer", run_folder, "--data", shapes, "--config", file, "--dry-run")
    assert "search.episodes is no setting of a transfer" in refused.last_line


def test_pictures_that_were_added_since_are_learnt_from_and_tested_on(run_folder, amc, shapes, tmp_path):
    images, labels = (np.load(shapes)[name] for name in ("images", "labels"))

    def add(numbers):
        for number in numbers:
            place = tmp_path / "flowers" / str(labels[number])
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images[number]).save(place / f"{number:03}.png")

    line = ("transfer", run_folder, "--data", f"imagefolder:{tmp_path / 'flowers'}", *QUICK, "--no-bench")
    add(range(40))
    assert amc(*line, "--json").json()["test_images"] == 10
    assert "done before" in amc(*line).err
    add(range(40, 80))
    again = amc(*line, "--json")
    assert "done before" not in again.err
    assert again.json()["test_images"] == 20


def test_a_network_that_loads_its_own_weights_cannot_start_from_scratch(run_folder, amc, shapes, monkeypatch):
    found = zoo.find

    def loading(*arguments):
        entry = found(*arguments)

        def build():
            torch.manual_seed(0)
            return entry.build()

        return replace(entry, build=build)

    monkeypatch.setattr(zoo, "find", loading)
    answer = amc("transfer", run_folder, "--data", shapes, *QUICK, "--no-bench", "--against", "scratch")
    assert answer.code == 1
    assert "leave scratch out of --against" in answer.last_line


def one_class(path, shapes):
    np.savez(path, images=np.load(shapes)["images"], labels=np.zeros(84, int))


def strangers(path, shapes):
    np.savez(path, images=np.load(shapes)["images"], labels=np.load(shapes)["labels"] + 40)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--data", "one.npz"), "has one class only"),
        (("--data", "shapes.npz", "--test", "more.npz"), "has labels up to 42, but"),
        (("--data", "nowhere.npz"), "there is no data at"),
        (("--data", "shapes.npz", "--train-images", "80"), "lower data.train_images or data.test_images"),
        (("--data", "shapes.npz", "--against", "best"), "against.0"),
        (("--data", "shapes.npz", "--device", "toaster"), "there is no device 'toaster'"),
        (("--data", "shapes.npz", "--out", "full"), "is not empty and is no transfer"),
    ],
)
def test_what_cannot_work_is_one_line(run_folder, amc, shapes, tmp_path, monkeypatch, options, said):
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(shapes, tmp_path / "shapes.npz")
    one_class(tmp_path / "one.npz", shapes)
    strangers(tmp_path / "more.npz", shapes)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "photo.jpg").write_text("x")
    answer = amc("transfer", run_folder, *options)
    assert answer.code in (1, 3)
    assert said in answer.last_line
    assert answer.out == ""
    assert (run_folder / "weights.pt").is_file()


def test_a_run_that_is_not_pruned_says_what_to_type(run_folder, amc, shapes):
    stages = read_json(run_folder / "stages.json")
    del stages["stages"]["export"]
    (run_folder / "stages.json").write_text(json.dumps(stages))
    answer = amc("transfer", run_folder, "--data", shapes)
    assert answer.code == 1
    assert "type `amc export" in answer.last_line


def replaced(run: Path, old: str, new: str) -> None:
    text = (run / "config.toml").read_text(encoding="utf-8")
    assert old in text
    (run / "config.toml").write_text(text.replace(old, new), encoding="utf-8")


def test_runs_without_a_smaller_module_are_refused(run_folder, amc, shapes):
    replaced(run_folder, 'granularity = "channel"', 'granularity = "weight"')
    assert "has single weights pruned" in amc("transfer", run_folder, "--data", shapes).last_line
    replaced(run_folder, 'name = "digits"\nweights', 'name = "mine.onnx"\nweights')
    assert "an ONNX file without a PyTorch module" in amc("transfer", run_folder, "--data", shapes).last_line


def test_a_search_without_the_uniform_opponent_says_so(run_folder, amc, shapes):
    search = read_json(run_folder / "search.json")
    search["opponents"] = [trial for trial in search["opponents"] if trial["agent"] != "uniform"]
    (run_folder / "search.json").write_text(json.dumps(search))
    answer = amc("transfer", run_folder, "--data", shapes, "--against", "uniform", "--dry-run")
    assert "leave it out of --against" in answer.last_line


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("imagefolder:/data/flowers/", "flowers"),
        ("a/shapes.npz", "shapes"),
        ("digits", "digits"),
        ("cifar10:.", "data"),
    ],
)
def test_folders_are_called_like_the_data(spec, name):
    assert folder_name(spec) == name

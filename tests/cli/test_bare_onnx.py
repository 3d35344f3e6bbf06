"""The whole job on a user's own ONNX file: nothing is known but the file and some labelled images."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from amc_mobile.cli import main
from amc_mobile.errors import RunFolderError
from amc_mobile.runs import RunFolder

from .foreign import foreign, with_input

NORMALISED = ("--mean", "0.3", "--std", "0.35")


@pytest.fixture(scope="session")
def net(tmp_path_factory, exported) -> Path:
    """The file of a stranger."""
    path = tmp_path_factory.mktemp("foreign") / "net.onnx"
    onnx.save(foreign(exported("digits")), path)
    return path


@pytest.fixture(scope="session")
def images(tmp_path_factory) -> Path:
    """Labelled images in a .npz file."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    path = tmp_path_factory.mktemp("images") / "images.npz"
    np.savez(path, images=np.round(digits.images * (255 / 16)).astype(np.uint8), labels=digits.target)
    return path


@pytest.fixture(scope="session")
def line(net, images, small) -> tuple[object, ...]:
    """The search on that file, without --out."""
    return ("search", "--config", small, "--model", net, "--data", images, *NORMALISED, "--macs", "0.5")


@pytest.fixture(scope="session")
def small(tmp_path_factory, tiny) -> Path:
    """The tiny config without its budget's latency: nothing is measured before the benchmark."""
    path = tmp_path_factory.mktemp("config") / "small.toml"
    path.write_text(tiny.read_text(encoding="utf-8").replace("latency = 0.6", "macs = 0.5"), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def searched(tmp_path_factory, line) -> Path:
    """A run folder in which every stage is done. Read it only."""
    folder = tmp_path_factory.mktemp("bare") / "run"
    assert main.run([*map(str, line), "--out", str(folder)]) == 0
    for verb in ("prune", "export", "bench", "report"):
        assert main.run([verb, str(folder)]) == 0, verb
    return folder


def test_every_stage_left_its_files_and_there_is_no_module(searched):
    folder = RunFolder(searched)
    files = (folder.original_onnx, folder.graph, folder.gram, folder.trials, folder.search, folder.policy)
    files += (folder.model_onnx, folder.accuracy, folder.comparison, folder.summary, folder.report)
    assert all(path.is_file() for path in files)
    assert not folder.weights.exists() and not folder.original_weights.exists()


def test_the_shipped_file_is_smaller_and_keeps_the_names_of_input_and_output(searched, net):
    import onnxruntime

    given, shipped = onnx.load(net), onnx.load(searched / "model.onnx")
    onnx.checker.check_model(shipped, full_check=True)
    assert shipped.graph.input[0].name == given.graph.input[0].name
    assert shipped.graph.output[0].name == given.graph.output[0].name
    assert not [node for node in shipped.graph.node if node.op_type == "BatchNormalization"]
    summary = json.loads((searched / "summary.json").read_text(encoding="utf-8"))
    assert summary["macs_after"] <= 0.5 * summary["macs_before"]
    assert summary["weights"] is None and summary["parity"] < 1e-5
    session = onnxruntime.InferenceSession(str(searched / "model.onnx"))
    assert session.run(None, {given.graph.input[0].name: np.zeros((1, 1, 32, 32), np.float32)})[0].shape == (1, 10)


def test_the_file_as_read_answers_as_the_file_given(searched, net):
    from amc_mobile.export.from_onnx import difference

    pictures = np.random.default_rng(0).normal(size=(4, 1, 32, 32)).astype(np.float32)
    assert difference(onnx.load(net), onnx.load(searched / "original.onnx"), pictures) < 1e-5


def test_loading_a_module_from_it_says_why_not(searched):
    from amc_mobile.prune.saved import load

    with pytest.raises(RunFolderError, match=r"net\.onnx, which has no PyTorch module; run .*model\.onnx"):
        load(searched)


def test_the_same_command_resumes_and_another_file_is_another_run(amc, line, searched, exported, tmp_path):
    folder = shutil.copytree(searched, tmp_path / "run")
    assert amc(*line, "--out", folder).err.count("done before") == 5
    other = tmp_path / "other.onnx"
    onnx.save(foreign(exported("digits"), seed=1), other)
    answer = amc(*line, "--model", other, "--out", folder)
    assert answer.code == 1 and "model.name" in answer.last_line


def test_one_config_runs_everything_from_a_folder_of_data(amc, small, net, images, tmp_path):
    (tmp_path / "data").mkdir()
    for file in (net, images):
        shutil.copyfile(file, tmp_path / "data" / file.name)
    text = small.read_text(encoding="utf-8").split("[data]")[1]
    config = tmp_path / "net.toml"
    config.write_text(f'[model]\nname = "net.onnx"\nmean = [0.3]\nstd = [0.35]\n[data]\nname = "images.npz"\n{text}')
    answer = amc("run", config, "--data", tmp_path / "data", "--out", tmp_path / "run", "--json")
    assert answer.code == 0, answer.err
    assert answer.json()["accuracy_after"] is not None
    assert (tmp_path / "run" / "report.html").is_file()


def test_without_normalisation_the_note_says_what_is_assumed(amc, net, images, small, tmp_path):
    said = amc("search", "--config", small, "--model", net, "--data", images, "--out", tmp_path / "run").err
    assert "reading pixels of 0..1 with mean [0.0], std [1.0]" in said
    assert "--mean, --std" in said


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--weights", "{net}"), "has its weights inside"),
        (("--mean", "a,b"), "is no list of numbers"),
        (("--mean", "0.1,0.2,0.3"), "model.mean has 3 values, but"),
        (("--std", "0"), "model.std must be positive"),
        (("--importance", "taylor"), "taylor"),
        (("--model", "{here}/none.onnx"), "give the path of an ONNX file"),
        (("--model", "{here}/last.onnx"), "channels last"),
        (("--model", "{here}/oblong.onnx"), "square images"),
        (("--model", "{here}/half.onnx"), "export it again in float32"),
        (("--model", "{here}/map.onnx"), "it must answer logits"),
    ],
)
def test_what_a_bare_file_cannot_do_is_one_line(amc, line, net, exported, tmp_path, options, says):
    for name, shape, kind in (
        ("last", (1, 32, 32, 3), TensorProto.FLOAT),
        ("oblong", (1, 3, 32, 16), TensorProto.FLOAT),
        ("half", (1, 3, 32, 32), TensorProto.FLOAT16),
        ("map", (1, 3, 32, 32), TensorProto.FLOAT),
    ):
        onnx.save(with_input(exported("digits"), shape, kind), tmp_path / f"{name}.onnx")
    given = [option.format(net=net, here=tmp_path) for option in options]
    answer = amc(*line, *given, "--out", tmp_path / "run")
    assert answer.code == 1, answer.err
    assert answer.last_line.startswith("amc: ") and says in answer.last_line
    assert "internal error" not in answer.last_line


def test_fine_tuning_is_refused_in_one_line(amc, searched, small, net, tmp_path):
    answer = amc("finetune", searched, "--epochs", 1)
    assert answer.code == 1 and "set finetune.epochs to 0" in answer.last_line
    text = small.read_text(encoding="utf-8").split("[data]")[1]
    config = tmp_path / "tuned.toml"
    config.write_text(f"[model]\nname = {json.dumps(str(net))}\n[finetune]\nepochs = 2\n[data]{text}")
    answer = amc("run", config, "--out", tmp_path / "run")
    assert answer.code == 1 and "without its PyTorch source" in answer.last_line
    assert not (tmp_path / "run").exists()

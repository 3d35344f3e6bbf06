"""Two processes train what one would, up to rounding; the first one writes, and lets the other go."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from amc_mobile.train.fit import fit
from tests.train.networks import IMAGES, LABELS, PLAIN, Tiny

SETTINGS = PLAIN.model_copy(
    update={
        "epochs": 2,
        "batch_size": 9,  # five for one process, four for the other
        "shift": 1,
        "ema": 0.9,
        "label_smoothing": 0.1,
        "distillation": 0.5,
        "validation_images": 15,
        "reestimate": 30,
    }
)


def network():
    module = Tiny()
    module.drop.p = 0.0  # every process draws its own
    return module


def train(folder: Path, checkpoint: Path | None = None, **wanted):
    path = None if checkpoint is None else checkpoint
    settings = SETTINGS.model_copy(update=wanted)
    module = fit(
        network(), IMAGES, LABELS, settings, seed=1, teacher=network(), checkpoint=path, record=folder / "r.json"
    )
    torch.save(module.state_dict(), folder / "trained.pt")


def one_of_two(folder: Path) -> None:
    """What each of the two processes runs."""
    from amc_mobile.train import parallel

    torch.set_num_threads(1)
    if parallel.helps():
        parallel.serve()
        return
    train(folder, folder / "two.partial")
    (folder / "first").mkdir()
    train(folder / "first", folder / "two.partial")  # from the finished checkpoint
    parallel.dismiss()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("two")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    code = (
        f"from pathlib import Path; from tests.train.test_parallel import one_of_two; one_of_two(Path({str(found)!r}))"
    )
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code], env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        )
        for rank in range(2)
    ]
    assert [process.wait(timeout=240) for process in processes] == [0, 0]
    return found


def test_two_processes_train_what_one_does(folder, tmp_path):
    train(tmp_path)
    one, two = (torch.load(path / "trained.pt", weights_only=True) for path in (tmp_path, folder))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-4, atol=1e-5, msg=name)


def test_it_is_on_record(folder, tmp_path):
    import json

    train(tmp_path)
    one, two = (json.loads((path / "r.json").read_text()) for path in (tmp_path, folder))
    assert (one["processes"], two["processes"]) == (1, 2)
    for mine, theirs in zip(one["epochs"], two["epochs"], strict=True):
        assert theirs["loss"] == pytest.approx(mine["loss"], rel=1e-4)
        assert theirs["validation_accuracy"] == mine["validation_accuracy"]


def test_a_finished_training_of_two_is_not_repeated(folder):
    first, second = (torch.load(path / "trained.pt", weights_only=True) for path in (folder, folder / "first"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_alone_there_is_nobody_to_wait_for(monkeypatch):
    from amc_mobile.train import parallel

    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "8")  # of some other program
    assert not parallel.helps()
    assert parallel.together(lambda team, **mine: (team.size, mine), progress=3) == (1, {"progress": 3})
    parallel.dismiss()

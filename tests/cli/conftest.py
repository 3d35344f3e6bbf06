"""A command line inside this process, and one tiny finished run that the tests copy."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from amc_mobile.cli import main

TINY = """
[model]
weights = {weights}
[data]
search_images = 24
calibration_images = 12
test_images = 40
train_images = 64
[profile]
carriers = 4
rounds = 1
turns = 2
warmups = 1
runs = 5
min_time_s = 0.0
force = true
tolerance = 100.0
[budget]
latency = 0.6
[search]
episodes = 3
warmup_episodes = 1
sensitivity_points = 1
hidden = 16
random_policies = 1
[prune]
importance = "l1"
ridge = 1e-4
[bench]
rounds = 3
warmups = 1
runs = 5
min_time_s = 0.0
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one command line said."""

    code: int
    out: str
    err: str

    @property
    def last_line(self) -> str:
        """Of stderr: where errors stand."""
        return self.err.strip().splitlines()[-1] if self.err.strip() else ""

    def json(self):
        """The one object on stdout."""
        return json.loads(self.out)


@pytest.fixture
def amc(capsys):
    """Runs `amc` with these arguments in this process."""

    def run(*arguments: object) -> Answer:
        capsys.readouterr()
        code = main.run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Answer(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def weights(tmp_path_factory, module_of) -> Path:
    """A state_dict file of the digits network, untrained: what the tests look at does not depend on it."""
    import torch

    path = tmp_path_factory.mktemp("weights") / "digits.pt"
    torch.save(module_of("digits").state_dict(), path)
    return path


@pytest.fixture(scope="session")
def tiny(tmp_path_factory, weights) -> Path:
    """A config file for the smallest run that goes through every stage."""
    path = tmp_path_factory.mktemp("config") / "tiny.toml"
    path.write_text(TINY.format(weights=json.dumps(str(weights))), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def finished(tmp_path_factory, tiny) -> Path:
    """The folder of that run. Read it only."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert main.run(["run", str(tiny), "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def run_folder(finished, tmp_path) -> Path:
    """A copy of the finished run."""
    return Path(shutil.copytree(finished, tmp_path / "run"))

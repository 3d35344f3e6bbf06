"""A finished run, written once; every test gets a copy of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from amc_mobile.runs import RunFolder

from .fake_run import network, write_run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A complete run folder. Do not change it."""
    return write_run(RunFolder(tmp_path_factory.mktemp("runs") / "demo"), network())


@pytest.fixture
def run(finished: RunFolder, tmp_path: Path) -> RunFolder:
    """A complete run folder to change at will."""
    shutil.copytree(finished.root, tmp_path / "demo", ignore=shutil.ignore_patterns("report.*"))
    return RunFolder(tmp_path / "demo")

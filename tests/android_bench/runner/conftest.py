"""The runner, compiled once in a session, with the library of the installed onnxruntime. Offline."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from android_bench.bundle import RUNNER, Bundle, bundle
from android_bench.runner.compile import native
from android_bench.runner.libraries import LIBRARY
from tests.android_bench.runner.running import Program


@pytest.fixture(scope="session")
def x86_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    if not native("x86_64"):
        pytest.skip("this machine does not run the x86-64 runner")
    compiler = "gcc" if shutil.which("gcc") else "zig"
    return bundle("x86_64", compiler=compiler, cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def program(x86_bundle: Bundle) -> Program:
    return Program(x86_bundle.files[RUNNER], Path(x86_bundle.files[LIBRARY]))

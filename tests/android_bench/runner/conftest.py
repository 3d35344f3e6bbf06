"""The runner, compiled once in a session, with the library of the installed onnxruntime. Offline."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
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


@pytest.fixture(scope="session", autouse=True)
def _one_zig_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What zig compiles for every program (its C library's beginnings) is compiled once in a session."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZIG_GLOBAL_CACHE_DIR", str(tmp_path_factory.mktemp("zig")))
        yield

"""`amc_mobile.cli.leashed` for jobs on fake phones: the runner that is sent to them computes its times."""

from __future__ import annotations

import os
from pathlib import Path

import android_bench.bundle
from amc_mobile.cli import leashed
from tests.fakes.fake_runner import fake_bundle

FOLDER = "AMC_TEST_BUNDLE"  # where the bundle is made

if __name__ == "__main__":
    android_bench.bundle.bundle = lambda abi, **_: fake_bundle(Path(os.environ[FOLDER]), abi)  # type: ignore[assignment]
    leashed.entry()

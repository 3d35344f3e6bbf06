"""`amc profile` in a process of its own: killed without warning, disturbed by real programs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from amc_mobile.cost.table import LatencyTable
from amc_mobile.device import machine

pytestmark = pytest.mark.slow

SETTINGS = """
[profile]
carriers = 6
rounds = 2
turns = 1
warmups = 2
runs = 10
min_time_s = 0.15
force = true
"""


def command(folder: Path) -> list[str]:
    (folder / "settings.toml").write_text(SETTINGS)
    amc = [sys.executable, "-c", "import sys; from amc_mobile.cli.main import run; sys.exit(run(sys.argv[1:]))"]
    return [
        *amc,
        "profile",
        "--model",
        "digits",
        "--config",
        str(folder / "settings.toml"),
        "--out",
        str(folder / "t.json"),
    ]


def chunks(partial: Path) -> list[str]:
    """The whole lines of a campaign's log, without its head."""
    return partial.read_text().split("\n")[1:-1] if partial.is_file() else []


def test_kill_9_loses_nothing_that_was_measured(tmp_path):
    partial = tmp_path / ".t.partial"
    process = subprocess.Popen(command(tmp_path), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(chunks(partial)) < 2 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = chunks(partial)
    assert len(before) >= 2
    done = subprocess.run(command(tmp_path), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    stored = LatencyTable.load(tmp_path / "t.json").evidence["chunks"]
    assert [json.loads(line) for line in before] == stored[: len(before)]
    assert len(stored) > len(before)
    assert not partial.exists()


def test_a_round_beside_busy_loops_is_noticed(tmp_path):
    before = machine.foreign_load(1.0)
    if before is None or before > 0.3:
        pytest.skip(f"other programs keep {before} cores busy already: busy loops would not stand out")
    partial = tmp_path / ".t.partial"
    process = subprocess.Popen(command(tmp_path), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    deadline = time.monotonic() + 120
    while len(chunks(partial)) < 2 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        while len(chunks(partial)) < 4 and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.02)
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
    _out, said = process.communicate(timeout=240)
    evidence = LatencyTable.load(tmp_path / "t.json").evidence
    disturbed = {part["round"] for part in evidence["steadiness"] if part["reason"]}
    assert 1 in disturbed, evidence["steadiness"]
    assert "round 2 was disturbed" in said
    assert len(evidence["steadiness"]) > 4  # something was measured again

"""Ctrl-C and kill -9 in the middle of a search: nothing is lost, and the resumed search equals an uninterrupted one."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

PATIENCE_S = 120.0


def start(line: list[str], folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "amc_mobile.cli.main", *line, "--out", str(folder)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def stop_after(process: subprocess.Popen[str], folder: Path, trials: int, number: signal.Signals) -> tuple[int, str]:
    """Sends the signal once so many trials are written; answers exit code and stderr."""
    deadline = time.monotonic() + PATIENCE_S
    while len(read(folder)) < trials and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    _, said = process.communicate(timeout=PATIENCE_S)
    return process.returncode, said


def read(folder: Path) -> list[bytes]:
    path = folder / "trials.jsonl"
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


def without_seconds(folder: Path) -> list[dict[str, object]]:
    trials = [json.loads(text) for text in read(folder)]
    return [{key: value for key, value in trial.items() if key != "seconds"} for trial in trials]


def test_a_search_killed_and_interrupted_equals_an_uninterrupted_one(tiny, finished, tmp_path):
    """Network, graph and calibration are those of the finished run: only the search is done anew."""
    whole, broken = (Path(shutil.copytree(finished, tmp_path / name)) for name in ("whole", "broken"))
    alone = tmp_path / "alone.toml"
    alone.write_text(tiny.read_text(encoding="utf-8").replace("[search]", '[search]\nagent = "ddpg"'))
    line = ["search", "--config", str(alone), "--macs", "0.6", "--episodes", "16", "--update"]
    (broken / "trials.jsonl").unlink()  # of the latency search
    code, _ = stop_after(start(line, broken), broken, 2, signal.SIGKILL)
    assert code == -signal.SIGKILL
    code, said = stop_after(start(line, broken), broken, 5, signal.SIGINT)
    assert code == 130
    assert said.strip().splitlines()[-1] == "amc: interrupted; type the same command again to resume"
    assert "Traceback" not in said
    written = read(broken)
    for folder in (broken, whole):  # as a user would: each command is a process of its own
        assert start(line, folder).wait(PATIENCE_S) == 0
    assert 5 <= len(written) < len(read(broken))
    assert without_seconds(broken) == without_seconds(whole)
    assert json.loads((broken / "search.json").read_text(encoding="utf-8"))["best"]["kept"]

"""One attempt is a process of its own: it ends with its parent, its words are in the log, an interrupt reaches it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from amc_mobile.sweep.attempt import Order, attempt, last_word


def test_the_log_keeps_what_was_said_and_the_last_word_is_the_reason(tmp_path):
    order = Order(("run", str(tmp_path / "nowhere.toml")), str(tmp_path), str(tmp_path / "logs" / "x.log"))
    end = attempt(order, "node7")
    assert end.code == 1
    assert end.word.startswith("cannot read config")
    assert (end.node, end.lost) == ("node7", False)
    assert end.ended_s > end.begun_s
    first, last = (tmp_path / "logs" / "x.log").read_text().splitlines()
    assert first.startswith("# ")
    assert "node7: amc run " in first
    assert last.startswith("amc: cannot read config")


def test_a_log_that_cannot_be_written_is_a_failure_like_any_other(tmp_path):
    (tmp_path / "logs").write_text("a file")
    end = attempt(Order(("--help",), str(tmp_path), str(tmp_path / "logs" / "x.log")), "")
    assert end.code == 1
    assert "x.log" in end.word


def test_no_gpu_is_seen_unless_the_order_says_so(tmp_path, monkeypatch):
    (tmp_path / "tells.py").write_text("import os\nprint(os.environ['CUDA_VISIBLE_DEVICES'] or 'none')\n")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    words = [
        attempt(Order((), str(tmp_path), str(tmp_path / "x.log"), gpu=gpu, module="tells"), "").word
        for gpu in (False, True)
    ]
    assert words == ["none", "5"]


def test_the_last_word_of_nothing(tmp_path):
    assert last_word(tmp_path / "none") == ""
    (tmp_path / "log").write_bytes(b"one\n\xff two  three \n\n")
    assert last_word(tmp_path / "log") == "\ufffd two three"


SLEEPER = """
import os, sys, time
from amc_mobile.cli import leashed, main
def entry():
    open({mark!r}, "w").write(str(os.getpid()))
    time.sleep(600)
main.entry = entry
leashed.entry()
"""


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGINT])
def test_whatever_ends_the_parent_ends_the_attempt(tmp_path, blow):
    mark = tmp_path / "pid"
    (tmp_path / "sleeper.py").write_text(SLEEPER.format(mark=str(mark)))
    code = f"""
    import signal
    from amc_mobile.sweep.attempt import Order, attempt
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background are started without
    attempt(Order((), {str(tmp_path)!r}, {str(tmp_path / "x.log")!r}, module="sleeper"), "")
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stderr=subprocess.DEVNULL)
    child = int(_wait_for(lambda: mark.is_file() and mark.read_text()))
    assert _alive(child)
    parent.send_signal(blow)
    parent.wait(60)
    assert _wait_for(lambda: not _alive(child))


def _wait_for(what, patience_s=60.0):
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        if value := what():
            return value
        time.sleep(0.05)
    raise AssertionError("it never happened")


def _alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"

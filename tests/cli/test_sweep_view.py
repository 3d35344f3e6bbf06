"""What a sweep says while it runs: a line for each end, a table of the jobs at work, the file of all attempts."""

from __future__ import annotations

import io
import json
import time

import pytest
from rich.console import Console

from amc_mobile.cli import phones
from amc_mobile.cli.sweep_view import View, watched
from amc_mobile.cli.sweeping import resolve
from amc_mobile.sweep.board import Board, Ended
from amc_mobile.sweep.settings import load, with_options


class Live:
    """Where a terminal would be: keeps the text of the last table."""

    text = ""

    def update(self, table) -> None:
        console = Console(file=io.StringIO(), width=120)
        console.print(table)
        self.text = console.file.getvalue()


@pytest.fixture
def sweep(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    monkeypatch.setattr(phones, "attached", lambda: ([], {}))
    settings, base = load(tiny)
    chosen = with_options(settings, {"devices": ["10.0.0.7:5555"], "budgets": [{"macs": 0.6}]})
    made = resolve(chosen, base, tmp_path / "sweep", None, update=False)
    made.prepare()
    return made


def test_the_table_shows_last_words_of_jobs_at_work_and_who_waits(sweep):
    board, live = Board(sweep.jobs), Live()
    view = View(sweep, board, live)
    original, table = sweep.jobs[:2]
    for job in (original, table):
        board.give(job)
    log = sweep.log(original.folder)
    log.parent.mkdir()
    log.write_text(f"# now: amc {' '.join(sweep.order(original).arguments)}\n     train  7/9, about 3 s left\n")
    view(None, None)
    rows = live.text.splitlines()
    assert rows[1].split() == ["shared/original-s0", "original", "train", "7/9,", "about", "3", "s", "left"]
    assert "waits for room on 10.0.0.7:5555" in rows[2]
    assert rows[3].strip() == "0 of 5 jobs done"
    log.write_text(log.read_text().splitlines()[0] + "\n")
    view(None, None)
    assert "begins" in live.text


def test_the_log_of_an_earlier_step_says_nothing_about_this_one(sweep):
    board, live = Board(sweep.jobs), Live()
    search, cut = (job for job in sweep.jobs if job.step in ("search", "cut"))
    view = View(sweep, board, live)
    log = sweep.log(search.folder)
    log.parent.mkdir()
    log.write_text(f"# now: amc {' '.join(sweep.order(search).arguments)}\n    search  done in 3 s\n")
    board.give(cut)
    view(None, None)
    assert "waits for room" in live.text
    assert "done in 3 s" not in live.text


def test_every_end_is_a_line_and_an_entry(sweep, capsys):
    board = Board(sweep.jobs)
    original, table = sweep.jobs[:2]
    begun_s = time.time() - 20.0
    with watched(sweep, board) as view:
        board.finish(original)
        view(original, Ended(0, "", "n1", "here", begun_s, begun_s + 12.0))
        view(table, Ended(-9, "killed", "n1", "here"))
        board.fail(table, "the phone is hot")
        view(table, Ended(3, "the phone is hot"))
    said = capsys.readouterr().err.splitlines()
    assert "shared/original-s0 original: done in 12 s on here (1 of 5, about " in said[0]
    assert said[1].endswith("its worker died; it is given out again")
    assert said[2].endswith("shared/table-10.0.0.7_5555 table: failed: the phone is hot")
    entries = [json.loads(line) for line in sweep.jobs_file.read_text().splitlines()]
    assert [(entry["job"].split()[1], entry["code"], entry["node"]) for entry in entries] == [
        ("original", 0, "n1"),
        ("table", -9, "n1"),
        ("table", 3, ""),
    ]

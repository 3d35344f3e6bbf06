"""report.html, report.md and report.json of a sweep, from its folder: nothing is measured here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amc_mobile.report import device_tables
from amc_mobile.report import wording as say
from amc_mobile.report.sweep import Spread, SweepFacts, SweptDevice, Variant, gather_sweep
from amc_mobile.report.sweep_figures import draw_sweep
from amc_mobile.report.write import page_environment, style, text_environment
from amc_mobile.runs import RunFolder, plain, write_text


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of run in the table of a device."""

    name: str
    cells: tuple[str, ...]
    front: bool


def write_sweep_report(root: Path) -> Path:
    """Writes the page into the folder of the sweep; answers the path of the HTML file. Raises: RunFolderError."""
    facts, folder = gather_sweep(root), RunFolder(root)
    pictures = [draw_sweep(device, number, facts.metric) for number, device in enumerate(facts.devices, start=1)]
    page, text = page_environment(), text_environment()
    page.filters |= {"times": say.times, "interval": say.interval}
    write_text(folder.report.with_suffix(".json"), json.dumps(plain(facts), indent=1, allow_nan=False) + "\n")
    write_text(folder.report.with_suffix(".md"), text.get_template("sweep.md").render(_context(facts)))
    html = page.get_template("sweep.html").render(_context(facts), pictures=pictures, css=style())
    write_text(folder.report, html)
    return folder.report


def sweep_lines(facts: SweepFacts, root: Path) -> list[str]:
    """The sweep in aligned lines for any terminal: each device's kinds of runs, what is not complete, the page."""
    lines: list[str] = []
    for device in facts.devices:
        lines += [f"{device.name}: {device.model}" + (", EMULATED" if device.emulated else "")]
        rows = [(*_heading(facts), ""), *((row.name, *row.cells, "front" * row.front) for row in _rows(device, facts))]
        wide = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines += [f"  {_aligned(row, wide)}" for row in rows]
    lines += [f"not complete: {run.name}: {run.problem or 'not done yet'}" for run in facts.unfinished]
    return [say.plain_ascii(line) for line in [*lines, f"report  {RunFolder(root).report}"]]


def _aligned(row: tuple[str, ...], wide: list[int]) -> str:
    cells = [row[0].ljust(wide[0]), *(cell.rjust(size) for cell, size in zip(row[1:], wide[1:], strict=True))]
    return "  ".join(cells).rstrip()


def _context(facts: SweepFacts) -> dict[str, Any]:
    return {
        "facts": facts,
        "heading": _heading(facts),
        "tables": [_rows(device, facts) for device in facts.devices],
        "caption": f"Means over seeds, with the least and the largest; accuracy on {facts.images:,} test images that "
        "no search saw; latency on the device, fastest first",
        "notes": list(_notes(facts)),
        "emulated": device_tables.EMULATED,
        "emulated_more": device_tables.EMULATED_MORE,
    }


@dataclass(frozen=True, slots=True)
class _Column:
    """One figure of every kind of run, and of the original."""

    heading: str
    of: Callable[[Variant], str]
    original: Callable[[SweptDevice], str] = lambda device: ""


def _columns(facts: SweepFacts) -> list[_Column]:
    """What there is to tell: nothing of agents, int8 and fine-tuning where all runs are alike in it."""
    variants = [each for device in facts.devices for each in device.variants]
    tuned = any(each.unrefined != each.accuracy for each in variants)
    return [
        *([_Column("Agent", lambda each: each.agent)] if facts.agents > 1 else []),
        _Column("Seeds", lambda each: str(len(each.seeds))),
        _Column(
            facts.metric.replace("top", "Top-"),
            lambda each: _range(each.accuracy, 100, "%"),
            lambda device: _range(device.accuracy_before, 100, "%"),
        ),
        _Column("Latency", lambda each: _range(each.after_us, 1e-3, "ms", 2), lambda device: say.ms(device.before_us)),
        _Column("Speed-up", lambda each: say.times(each.speedup.mean)),
        *([_Column("In int8", _in_int8)] if any(each.accuracy_int8 or each.int8_us for each in variants) else []),
        *([_Column("Not fine-tuned", lambda each: say.percent(each.unrefined.mean))] if tuned else []),
        *([_Column("Uniform", lambda each: _mean(each.uniform))] if any(each.uniform for each in variants) else []),
    ]


def _heading(facts: SweepFacts) -> tuple[str, ...]:
    return ("Budget", *(column.heading for column in _columns(facts)))


def _rows(device: SweptDevice, facts: SweepFacts) -> list[Row]:
    """The original first, then every kind of run. An emulated device claims no speed."""
    columns = _columns(facts)
    rows = [Row("original", tuple(column.original(device) for column in columns), front=False)]
    for each in device.variants:
        cells = tuple(
            "–" if device.emulated and column.heading == "Speed-up" else column.of(each) for column in columns
        )
        rows.append(Row(each.budget, cells, each.front))
    return rows


def _mean(spread: Spread | None) -> str:
    return say.percent(None if spread is None else spread.mean)


def _in_int8(each: Variant) -> str:
    """Accuracy and time of the same network in int8, as far as they are known."""
    accuracy = _mean(each.accuracy_int8)
    return accuracy if each.int8_us is None else f"{accuracy} in {each.int8_us.mean / 1e3:.2f}{say.NBSP}ms"


def _range(spread: Spread, scale: float, unit: str, digits: int = 1) -> str:
    """A mean and its range as "98.1 % (97.8–98.4)"; without the range where there is none to see."""
    ends = [f"{scale * value:.{digits}f}" for value in (spread.least, spread.most)]
    text = f"{scale * spread.mean:.{digits}f}{say.NBSP}{unit}"
    return text if ends[0] == ends[1] else f"{text} ({ends[0]}–{ends[1]})"


def _notes(facts: SweepFacts) -> Iterator[str]:
    yield (
        "The front is that of means over seeds: the best single run is best partly by luck, and choosing it by these "
        "test images would flatter it."
    )
    yield (
        "Uniform is pruning by one ratio everywhere, under the same budget with the same repair, and never fine-tuned: "
        "compare it with networks that are not fine-tuned either."
    )
    if all(len(each.seeds) < 3 for device in facts.devices for each in device.variants):
        yield "With fewer than three seeds the spread says little: neighbours on the front may change places."
    for device in facts.devices:
        yield (
            f"{device.name}: the original's own time varied by ±{say.percent(device.drift)} from run to run; every "
            "time here is the network's share of its own original's, measured beside it, of their median."
        )

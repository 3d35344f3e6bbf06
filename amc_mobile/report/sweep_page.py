"""report.html, report.md and report.json of a sweep, from its folder: nothing is measured here."""

from __future__ import annotations

import json
from collections.abc import Iterator
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


def _heading(facts: SweepFacts) -> tuple[str, ...]:
    agent = ("Agent",) if facts.agents > 1 else ()
    accuracy = facts.metric.replace("top", "Top-")
    return ("Budget", *agent, "Seeds", accuracy, "Latency", "Speed-up", "In int8", "Before fine-tuning (uniform)")


def _rows(device: SweptDevice, facts: SweepFacts) -> list[Row]:
    """The original first, then every kind of run."""
    agent = ("",) if facts.agents > 1 else ()
    accuracy = _range(device.accuracy_before, 100, "%")
    original = Row("original", (*agent, "", accuracy, say.ms(device.before_us), "", "", ""), front=False)
    return [original, *(_row(each, device, facts) for each in device.variants)]


def _row(each: Variant, device: SweptDevice, facts: SweepFacts) -> Row:
    cells = (
        *((each.agent,) if facts.agents > 1 else ()),
        str(len(each.seeds)),
        _range(each.accuracy, 100, "%"),
        _range(each.after_us, 1e-3, "ms", 2),
        "–" if device.emulated else say.times(each.speedup.mean),
        _in_int8(each),
        f"{say.percent(each.unrefined.mean)} ({say.percent(None if each.uniform is None else each.uniform.mean)})",
    )
    return Row(each.budget, cells, each.front)


def _in_int8(each: Variant) -> str:
    """Accuracy and time of the same network in int8, as far as they are known."""
    accuracy = "–" if each.accuracy_int8 is None else say.percent(each.accuracy_int8.mean)
    return accuracy if each.int8_us is None else f"{accuracy} in {say.ms(each.int8_us.mean)}"


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
        "Before fine-tuning, the network that was found stands beside uniform pruning (in brackets) under the same "
        "budget with the same repair."
    )
    if all(len(each.seeds) < 3 for device in facts.devices for each in device.variants):
        yield "With fewer than three seeds the spread says little: neighbours on the front may change places."
    for device in facts.devices:
        yield (
            f"{device.name}: the original's own time varied by ±{say.percent(device.drift)} from run to run; every "
            "time here is the network's share of its own original's, measured beside it, of their median."
        )

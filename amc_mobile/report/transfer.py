"""What came of a transfer, from transfer.json: a table for the terminal, and a page with a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from amc_mobile.errors import RunFolderError
from amc_mobile.report import wording as say
from amc_mobile.report.clock_figure import ORIGINAL, ClockPoint, against_clock
from amc_mobile.report.drawing import Picture
from amc_mobile.report.write import page_environment, style
from amc_mobile.runs import read_json, write_text
from amc_mobile.transfers import Contender, Gap, TransferResult

_SCHEMA = 1
LABELS = {
    "pruned": "pruned",
    "original": "original",
    "uniform": "uniform pruning, same budget",
    "scratch": "pruned shape from random weights",
}
HEADING = ("network", "top-1 (95 %)", "pruned minus this (95 %)", "MACs", "parameters", "latency", "speed-up (95 %)")


def read_transfer(path: Path) -> TransferResult:
    """The result of a transfer. Raises: RunFolderError for a file that is damaged or of another version."""
    content = read_json(path)
    if isinstance(content, dict) and content.get("schema") != _SCHEMA:
        raise RunFolderError(
            f"{path} has schema {content.get('schema')}, this version reads {_SCHEMA}; type `amc transfer` again"
        )
    try:
        return TypeAdapter(TransferResult).validate_python(content)
    except ValidationError as error:
        raise RunFolderError(f"{path} is damaged; delete it and type `amc transfer` again") from error


def transfer_rows(found: TransferResult) -> list[tuple[str, ...]]:
    """A row for each network, under HEADING."""
    gaps = {gap.against: gap for gap in found.gaps}
    return [_row(each, gaps.get(each.name)) for each in found.contenders]


def transfer_table(found: TransferResult) -> list[tuple[str, ...]]:
    """The same for a terminal of any encoding, with its heading and without columns that say nothing."""
    rows = [HEADING, *transfer_rows(found)]
    told = [column for column in range(len(HEADING)) if any(row[column] not in ("", "–") for row in rows[1:])]
    return [tuple(say.plain_ascii(row[column]) for column in told) for row in rows]


def transfer_lines(found: TransferResult, folder: Path) -> list[str]:
    """What stands below the table in a terminal."""
    lines = ["", sentence(found)]
    if found.device is not None and found.device.emulated:
        lines.append("EMULATED: function only, no speed claim")
    lines += [f"network  {folder / 'model.onnx'}", f"report   {folder / 'report.html'}"]
    return [say.plain_ascii(line) for line in lines]


def sentence(found: TransferResult) -> str:
    """The result in words."""
    first = found.contenders[0]
    text = (
        f"On {found.test_images:,} test images of {found.classes} classes the pruned {found.model} answers "
        f"{say.percent(first.accuracy)} right"
    )
    for gap in found.gaps:
        text += f"; {_in_words(gap)}"
    return text + "."


def write_transfer_report(path: Path) -> Path:
    """Writes report.html beside transfer.json and answers its path. Raises: RunFolderError."""
    found, page = read_transfer(path), path.with_name("report.html")
    text = (
        page_environment()
        .get_template("transfer.html")
        .render(
            found=found,
            verdict=sentence(found),
            heading=HEADING,
            rows=transfer_rows(found),
            picture=_picture(found),
            notes=_notes(found),
            settings=path.with_name("config.toml").read_text(encoding="utf-8"),
            css=style(),
        )
    )
    write_text(page, text)
    return page


def _picture(found: TransferResult) -> Picture | None:
    """Accuracy on the other images against the clock; None where no device timed the networks."""
    points = [
        ClockPoint(
            ORIGINAL if each.name == "original" else LABELS.get(each.name, each.name),
            "fp32",
            each.latency_us,
            each.accuracy,
            accuracy_ci=each.top1_ci,
        )
        for each in found.contenders
        if found.device is not None and each.latency_us is not None
    ]
    if not points or found.device is None:
        return None
    title = "Accuracy on the other images against the clock"
    return against_clock(points, title=title, device=found.device.model, name="transfer")


def _row(each: Contender, gap: Gap | None) -> tuple[str, ...]:
    return (
        LABELS.get(each.name, each.name),
        f"{say.percent(each.accuracy)} ({_interval(each.top1_ci)})",
        "" if gap is None else f"{say.points(gap.mean)} ({_interval(gap.interval)})",
        say.count(each.macs),
        say.count(each.params),
        say.ms(each.latency_us),
        _as_fast(each),
    )


def _as_fast(each: Contender) -> str:
    if each.speedup is None or each.speedup_ci is None or each.name == "original":
        return "–"
    return f"{say.times(each.speedup)} ({say.interval(each.speedup_ci)})"


def _interval(ends: tuple[float, float]) -> str:
    """Two fractions as percent: "85.1 to 86.9"."""
    return " to ".join(say.bare_percent(end).replace("-", say.MINUS) for end in ends)


def _in_words(gap: Gap) -> str:
    """The pruned network beside another; a difference whose interval holds zero is said to be none that shows."""
    name = {"original": "the original", "uniform": "uniform pruning", "scratch": "the same shape from random weights"}
    other, low, high = name.get(gap.against, gap.against), *gap.interval
    if low <= 0 <= high:
        return f"no difference from {other} shows ({_interval(gap.interval)} points)"
    return f"{say.points(abs(gap.mean))} {'more' if gap.mean > 0 else 'less'} than {other}".replace("+", "")


def _notes(found: TransferResult) -> list[str]:
    """What the numbers do not say."""
    seeds = len(found.seeds)
    notes = [
        f"Every network was trained alike: {found.epochs} epochs of {found.train_images:,} images in the same order, "
        "by the same settings. Longer training helps most where the weights were random.",
        "All networks answered the same test images. Intervals are 95 %, over "
        + ("images and seeds." if seeds > 1 else "images. What another seed would give is not known: --seeds 3 tells."),
    ]
    if seeds > 1:
        notes.append(_by_seed(found.contenders))
    if any(each.name == "scratch" and each.latency_us is not None for each in found.contenders):
        notes.append("The pruned shape from random weights was not timed apart: it is the pruned network's.")
    if found.device is not None and found.device.precision != "fp32":
        notes.append(
            f"Times are those of {found.device.precision} networks; accuracies are those of the float networks."
        )
    return notes


def _by_seed(contenders: Sequence[Contender]) -> str:
    parts = [
        f"{LABELS.get(each.name, each.name)} {', '.join(say.percent(top1) for top1 in each.top1)}"
        for each in contenders
    ]
    return f"Seed by seed: {'; '.join(parts)}. The files are those of the first seed, whatever the others gave."

"""report.html, report.md and report.json from the files of a run folder: nothing is measured here."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from amc_mobile.report import device_tables, reasons, tables
from amc_mobile.report import wording as say
from amc_mobile.report.device_figures import draw_device
from amc_mobile.report.facts import Facts, gather
from amc_mobile.report.figures import draw
from amc_mobile.runs import RunFolder, plain, write_text

_HERE = Path(__file__).parent
_FILTERS = {name: getattr(say, name) for name in ("ms", "bare_ms", "percent", "count", "signed")}


def write_report(folder: RunFolder, without: Collection[str] = ()) -> Path:
    """Writes report.html, report.md and report.json into the run folder; answers the path of the HTML file.

    What the stages `without` wrote is left out, though it may be there: it is of an earlier network.

    The same files give the same bytes. A section whose file is missing says which command makes it.

    Raises:
        RunFolderError: graph.json is missing, a file is damaged, or the folder cannot be written.
        TableError: the latency table is damaged.
    """
    facts = gather(folder, without)
    html, markdown = render_html(facts), render_markdown(facts)
    numbers = replace(facts, examples=None)  # those pictures are in detections.json
    write_text(folder.report.with_suffix(".json"), json.dumps(plain(numbers), indent=1, allow_nan=False) + "\n")
    write_text(folder.report.with_suffix(".md"), markdown)
    write_text(folder.report, html)
    return folder.report


def summary_lines(folder: RunFolder) -> list[str]:
    """The run's key figures as aligned lines for any terminal, the verdict first."""
    facts = gather(folder)
    rows = [("", "original", "pruned", "change")]
    rows += [(row.name, row.before, row.after, row.change) for row in tables.key_rows(facts)]
    cells = [[say.plain_ascii(cell) for cell in row] for row in rows]
    wide = [max(len(row[column]) for row in cells) for column in range(4)]
    lines = [*_wrapped("", facts.verdict), ""]
    lines += [
        f"  {row[0]:<{wide[0]}}  {row[1]:>{wide[1]}}  {row[2]:>{wide[2]}}  {row[3]:>{wide[3]}}".rstrip()
        for row in cells
    ]
    lines.append("")
    if facts.budget is not None:
        lines += _wrapped("  budget  ", facts.budget_sentence)
    for device in facts.devices:
        if not device.own:
            lines += _wrapped("  device  ", device_tables.one_line(device))
    for item in facts.missing:
        lines += _wrapped("  to do   ", item.sentence)
    lines.append(f"  report  {folder.report}")
    return lines


def _wrapped(heading: str, text: str) -> list[str]:
    """The text in lines of some 95 characters under its heading; a figure and its unit stay together."""
    indent = " " * len(heading)
    lines = textwrap.wrap(text, 95, initial_indent=heading, subsequent_indent=indent, break_on_hyphens=False)
    return [say.plain_ascii(line) for line in lines]


def render_html(facts: Facts) -> str:
    """The page: one file, no script, nothing loaded from elsewhere."""
    return (
        page_environment()
        .get_template("page.html")
        .render(
            _context(facts),
            pictures=draw(facts),
            device_pictures=[draw_device(device, number) for number, device in enumerate(facts.devices, start=1)],
            css=style(),
        )
    )


def render_markdown(facts: Facts) -> str:
    """The same tables for a terminal, a pull request or a wiki."""
    return text_environment().get_template("report.md").render(_context(facts))


def style() -> str:
    """The style sheet of every page."""
    return (_HERE / "style.css").read_text(encoding="utf-8")


def page_environment() -> Environment:
    """What renders a page: everything is escaped."""
    page = _environment(autoescape=True)
    page.filters |= {"layers": _layers_html, "prose": _prose_html, "softened": _softened, "unbroken": _unbroken}
    return page


def text_environment() -> Environment:
    """What renders Markdown: nothing that is filled in is taken for markup."""
    page = _environment(autoescape=False)
    page.finalize = _markdown_text
    page.filters |= {"layers": _layers_text, "prose": _prose_text, "fenced": _fenced}
    return page


def _context(facts: Facts) -> dict[str, Any]:
    return {
        "facts": facts,
        "key_rows": tables.key_rows(facts),
        "key_caption": tables.key_caption(facts),
        "table_rows": tables.table_rows(facts),
        "speed_heading": "Speed" if len(facts.devices) < 2 else f"Speed on {len(facts.devices)} devices",
        "overview": device_tables.overview_rows(facts.devices),
        "overview_heading": device_tables.OVERVIEW,
        "speed_tables": [device_tables.speed_table(device) for device in facts.devices],
        "layer_tables": [device_tables.layer_rows(device) for device in facts.devices],
        "emulated": device_tables.EMULATED,
        "emulated_more": device_tables.EMULATED_MORE,
        "why_heading": reasons.HEADING,
        "why_caption": reasons.CAPTION,
    }


def _environment(*, autoescape: bool) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        undefined=StrictUndefined,
        autoescape=autoescape,  # noqa: S701 - Markdown is escaped by _markdown_text
        keep_trailing_newline=True,
    )
    environment.filters |= _FILTERS
    return environment


def _prose_html(text: str) -> Markup:
    """One of our own sentences, its `commands` as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped just before


def _prose_text(text: str) -> Markup:
    """The same for Markdown: whatever it quotes is no markup, but for `commands`."""
    return Markup(_markdown_text(text).replace("\\`", "`"))  # noqa: S704 - Markdown, escaped just before


def _unbroken(text: str) -> Markup:
    """A sentence whose intervals ("1.98–2.04") stay on one line."""
    return Markup(re.sub(r"([\d.]+–[\d.]+)", r'<span class="whole">\1</span>', str(escape(text))))  # noqa: S704


def _softened(text: str) -> Markup:
    """A figure, its uncertainty ("±0.5" or "(1.98–2.04)") set apart so that it can stand on a line of its own."""
    figure, mark, rest = re.fullmatch(r"(.*?)(?: ([±(])(.*))?", text, re.DOTALL).groups(default="")  # type: ignore[union-attr]
    soft = Markup(' <span class="soft">{}{}</span>').format(mark, rest) if mark else ""
    return escape(figure) + soft


def _layers_html(names: Sequence[str]) -> Markup:
    """Layer names as code; a long list says how many are left out."""
    shown = Markup(", ").join(Markup("<code>{}</code>").format(name) for name in names[:_MOST_NAMES])
    return shown + _and_more(names) if names else Markup("–")


def _layers_text(names: Sequence[str]) -> str:
    return ", ".join(names[:_MOST_NAMES]) + _and_more(names) if names else "–"


_MOST_NAMES = 4


def _and_more(names: Sequence[str]) -> str:
    return f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""


def _markdown_text(value: Any) -> Any:
    """What stands for itself in a Markdown table cell: no markup, no pipe, no line break."""
    if isinstance(value, Markup):
        return value
    text = re.sub(r"([\\`*\[\]|])", r"\\\1", " ".join(str(value).split(None)) if "\n" in str(value) else str(value))
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _fenced(text: str, language: str) -> Markup:
    """A code block whose fence is longer than any run of backticks within."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return Markup(f"{fence}{language}\n{text.rstrip()}\n{fence}")  # noqa: S704 - Markdown, not HTML

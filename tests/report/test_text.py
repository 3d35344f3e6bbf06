"""Markdown, JSON and the terminal's summary."""

from __future__ import annotations

import json
import re

import pytest

from amc_mobile.report.write import summary_lines, write_report


@pytest.fixture(scope="module")
def report(finished):
    page = write_report(finished)
    return {suffix: page.with_suffix(suffix).read_text(encoding="utf-8") for suffix in (".md", ".json")}


def test_markdown_tables_have_equal_columns(report):
    body = re.sub(r"^(`{3,}).*?^\1$", "", report[".md"], flags=re.DOTALL | re.MULTILINE)
    tables = re.findall(r"(?:^\|.*\|\n)+", body, re.MULTILINE)
    assert len(tables) >= 8
    for table in tables:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1, table
        assert re.fullmatch(r"\|(-+:?\|)+", table.splitlines()[1])


def test_markdown_tells_the_story_top_down(report):
    lines = report[".md"].splitlines()
    assert lines[0] == "# digits on AMD EPYC 9B14"
    assert lines[2].startswith("**") and "faster" in lines[2]
    assert [line[3:] for line in lines if line.startswith("## ")] == [
        "Speed",
        "Accuracy on 450 test images",
        "Agents under the same evaluator and budget",
        "How wrong the latency table is",
        "Width of every group",
        "Why each layer is as wide as it is",
        "What could not be pruned, and why",
        "Every layer",
        "Measurement conditions",
        "What not to conclude",
        "Reproduce",
    ]
    assert "{{" not in report[".md"] and "None" not in report[".md"]


def test_markdown_fences_hold_the_config(run):
    run.config.write_text("# ```\nseed = 1\n", encoding="utf-8")
    markdown = write_report(run).with_suffix(".md").read_text(encoding="utf-8")
    assert "````toml\n# ```\nseed = 1\n````" in markdown


def test_json_speaks_in_plain_units(report):
    facts = json.loads(report[".json"])
    assert facts["schema"] == 1
    assert set(facts) == {
        "schema", "model", "verdict", "device", "speed", "devices", "accuracy", "sizes", "budget", "further",
        "budget_sentence", "structure", "search", "contest", "reasons", "table", "training", "finetuning", "settled",
        "conditions", "seconds", "notes", "missing", "commands", "config_text", "examples",
    }  # fmt: skip
    assert facts["speed"]["speedup"] == pytest.approx(facts["speed"]["before_us"] / facts["speed"]["after_us"])
    assert facts["missing"] == []
    assert len(facts["search"]["points"]) == 22


def test_the_summary_is_aligned_ascii_with_the_verdict_first(finished):
    lines = summary_lines(finished)
    assert "faster on AMD EPYC" in lines[0]
    assert all(line.isascii() and len(line) <= 100 for line in lines[:-1])
    start = lines.index("") + 1
    table = lines[start : lines.index("", start)]
    first = [line.split()[0] for line in table]
    assert first == ["original", "Latency", "Latency", "Top-1", "Top-1", "MACs", "Parameters", "File"]
    end = table[0].index("original") + len("original")  # figures are right-aligned under their heading
    assert all(line[end - 1] != " " and line[end] == " " for line in table)
    assert lines[-1] == f"  report  {finished.report}"
    assert any("budget" in line and "Held" in line for line in lines)

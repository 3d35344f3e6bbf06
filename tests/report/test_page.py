"""The page itself: whole, self-contained, accessible, the same every time, and safe with any name."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import pytest

from amc_mobile.report.write import write_report
from amc_mobile.runs import RunFolder, plain, read_json, write_json

from .fake_run import DEVICE, comparison, network, write_run
from .pages import Page

FIGURES = ["rounds", "state", "layers", "widths", "rewards", "trials", "table"]
HOSTILE = "<script>alert('x')</script>|`$a^b$`&\"\x00\n"


@pytest.fixture(scope="module")
def html(finished: RunFolder) -> str:
    return write_report(finished).read_text(encoding="utf-8")


def test_every_tag_closes_and_every_identifier_is_used_once(html):
    page = Page(html)
    assert page.faults == []
    identifiers = page.values("id")
    assert len(identifiers) == len(set(identifiers))


def test_every_reference_inside_the_page_has_a_target(html):
    page = Page(html)
    targets = set(page.values("id"))
    local = [link[1:] for link in page.values("href") if link.startswith("#")]
    clips = re.findall(r"url\(#([\w-]+)\)", html)
    labels = " ".join(page.values("aria-labelledby")).split()
    assert local and clips and labels
    assert set(local + clips + labels) <= targets


def test_all_figures_stand_in_order_with_title_and_description(html):
    assert re.findall(r'<figure id="figure-(\w+)">', html) == FIGURES
    assert len(re.findall(r'<svg [^>]*role="img"', html)) == len(FIGURES)
    for name in FIGURES:
        title, description = (re.search(rf'<{tag} id="{name}-{tag}">([^<]+)', html) for tag in ("title", "desc"))
        assert title and description and len(description[1]) > len(title[1])


def test_the_page_loads_nothing_and_runs_nothing(html):
    page = Page(html)
    assert page.count("script") == page.count("img") == page.count("iframe") == 0
    assert all(link.startswith(("#", "data:,")) for link in page.values("href") + page.values("src"))
    assert not re.search(r"https?://|@import|url\((?!#)", html)


def test_the_size_is_that_of_a_mail_attachment(tmp_path):
    folder = write_run(RunFolder(tmp_path / "big"), network(blocks=24), episodes=400)
    assert 50_000 < write_report(folder).stat().st_size < 400_000


def test_tables_have_captions_and_headings_do_not_skip_a_level(html):
    page = Page(html)
    assert page.count("table") == page.count("caption") > 5
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_the_verdict_names_speed_interval_accuracy_and_prediction(html):
    text = Page(html).text
    verdict = re.search(
        r"[\d.]+x faster on AMD EPYC 9B14 \(95 % CI [\d.]+–[\d.]+ ?\), 98\.9 % → 98\.7 % top-1; "
        r"the table predicted [\d.]+ ms, the clock said [\d.]+ ms \(prediction off by [+−][\d.]+ %\)\.",
        text.replace("\xa0", " "),
    )
    assert verdict


def test_no_colour_escapes_the_style_sheet(html):
    drawings = "".join(re.findall(r"<svg .*?</svg>", html, re.DOTALL))
    assert set(re.findall(r"#[0-9a-f]{6}", drawings)) == set()
    used, defined = set(re.findall(r"var\((--\w+)\)", html)), set(re.findall(r"(--[\w-]+):", html))
    assert used <= defined


def test_the_same_files_give_the_same_bytes(run):
    first = {path: path.read_bytes() for path in _written(run)}
    assert {path: path.read_bytes() for path in _written(run)} == first


def _written(run):
    page = write_report(run)
    return page, page.with_suffix(".md"), page.with_suffix(".json")


def test_hostile_names_stay_text(run):
    graph = network()
    groups = tuple(replace(g, name=HOSTILE, reason=HOSTILE, producers=(HOSTILE,)) for g in graph.groups)
    write_json(run.graph, {"network": plain(replace(graph, groups=groups)), "model_sha256": HOSTILE})
    told = dict.fromkeys((HOSTILE, "soc", "build", "cores", "pinned", "clock", "throttled"), HOSTILE)
    told["nodes_per_provider"] = f"cpu 3, {HOSTILE} 4"
    device = replace(DEVICE, model=HOSTILE, os=HOSTILE, details=told)
    write_json(run.comparison, comparison(500.0, 250.0, 249.0, device, graph))
    other = replace(comparison(500.0, 250.0, 249.0, device, graph), failed={HOSTILE: HOSTILE}, model_sha256=HOSTILE)
    run.devices.mkdir()
    write_json(run.device_comparison(HOSTILE), replace(other, device=replace(device, name=HOSTILE, provider=HOSTILE)))
    run.model_onnx.write_bytes(b"another network")
    summary = read_json(run.summary)
    write_json(
        run.summary, summary | {"commands": [HOSTILE], "seconds": {HOSTILE: 1.0}, "versions": {HOSTILE: HOSTILE}}
    )
    run.config.write_text(f"# {HOSTILE}", encoding="utf-8")
    html = write_report(run).read_text(encoding="utf-8")
    page = Page(html)
    assert page.faults == [] and page.count("script") == 0
    assert "alert('x')" in page.text
    markdown = run.report.with_suffix(".md").read_text(encoding="utf-8")
    assert "<script>" not in re.sub(r"^(`{3,}).*?^\1$", "", markdown, flags=re.DOTALL | re.MULTILINE)


def test_hostile_layer_names_do_not_break_the_pictures(tmp_path):
    graph = network()
    named = tuple(replace(layer, name=f"{layer.name}{HOSTILE}") for layer in graph.layers)
    folder = write_run(RunFolder(tmp_path / "run"), replace(graph, layers=named))
    page = Page(write_report(folder).read_text(encoding="utf-8"))
    assert page.faults == [] and page.count("script") == 0 and page.values("role").count("img") == len(FIGURES)

"""The page of a sweep: means over seeds, one clock for a device, the front, and what is not complete."""

from __future__ import annotations

import re

import pytest

from amc_mobile.errors import RunFolderError
from amc_mobile.report.sweep import gather_sweep
from amc_mobile.report.sweep_page import sweep_lines, write_sweep_report
from amc_mobile.runs import RunFolder, read_json

from .fake_sweep import entry, summary, write_large_sweep, write_sweep
from .pages import Page


def test_seeds_are_one_variant_with_mean_and_range(tmp_path):
    accuracies = (0.97, 0.98, 0.96)
    runs = [(entry("pixel", 0.5, seed), summary(1000.0, accuracy)) for seed, accuracy in enumerate(accuracies)]
    (device,) = gather_sweep(write_sweep(tmp_path, runs)).devices
    (variant,) = device.variants
    assert variant.seeds == (0, 1, 2)
    assert variant.accuracy.mean == pytest.approx(0.97)
    assert (variant.accuracy.least, variant.accuracy.most) == (0.96, 0.98)
    assert variant.accuracy_int8.mean == pytest.approx(0.968)
    assert variant.int8_us.mean == 500.0
    assert variant.budget == "50\u00a0% latency"


def test_times_are_brought_to_the_clock_of_the_devices_originals(tmp_path):
    """Two runs with the same speed-up, one of them made while the device was 20 % slower."""
    runs = [
        (entry("pixel", 0.5, 0), summary(1000.0, 0.97)),
        (entry("pixel", 0.5, 1), summary(1000.0, 0.97)),
        (entry("pixel", 0.5, 2), summary(1200.0, 0.97, latency_before_us=2400.0)),
    ]
    (device,) = gather_sweep(write_sweep(tmp_path, runs)).devices
    assert device.before_us == 2000.0
    assert [run.after_us for run in device.runs] == [1000.0, 1000.0, 1000.0]
    assert [run.before_us for run in device.runs] == [2000.0, 2000.0, 2400.0]
    assert device.drift == pytest.approx(0.1)


def test_the_front_is_what_no_other_mean_beats(tmp_path):
    measured = {0.3: (600.0, 0.90), 0.4: (800.0, 0.95), 0.5: (1000.0, 0.94), 0.6: (1200.0, 0.97), 0.7: (1400.0, 0.97)}
    runs = [(entry("pixel", share, 0), summary(*found)) for share, found in measured.items()]
    facts = gather_sweep(write_sweep(tmp_path, runs))
    (device,) = facts.devices
    assert [each.front for each in device.variants] == [True, True, False, True, False]
    sentence = "On pixel (Google Pixel 8): 90.0 % in 0.600 ms to 97.0 % in 1.20 ms; the original has 98.9 % in 2.00 ms."
    assert facts.verdict.replace("\u00a0", " ") == sentence


def test_devices_have_fronts_of_their_own(tmp_path):
    runs = [
        (entry("fast", 0.5, 0), summary(100.0, 0.99, latency_before_us=200.0)),
        (entry("slow", 0.5, 0), summary(1000.0, 0.97)),
    ]
    assert [device.variants[0].front for device in gather_sweep(write_sweep(tmp_path, runs)).devices] == [True, True]


def test_an_emulated_device_earns_no_claim(tmp_path):
    facts = gather_sweep(write_sweep(tmp_path, [(entry("x", 0.5, 0), summary(1000.0, 0.97, emulated=True))]))
    assert "is emulated: its clock says nothing" in facts.verdict
    write_sweep_report(tmp_path)
    page = Page((tmp_path / "report.html").read_text())
    assert "2.00x" not in page.text
    assert "2.00x" not in "\n".join(sweep_lines(facts, tmp_path))


def test_what_is_not_complete_says_why_and_leads_to_its_log(tmp_path):
    runs = [
        (entry("a", 0.5, 0), summary(1000.0, 0.97)),
        (entry("b", 0.5, 0, complete=False, problem="b search: <out of memory>"), {}),
        (entry("c", 0.5, 0, complete=False), summary(1000.0, 0.97)),  # of settings that are no longer asked for
    ]
    facts = gather_sweep(write_sweep(tmp_path, runs))
    assert [(run.name, run.problem) for run in facts.unfinished] == [
        ("b-latency0.5-auto-s0", "b search: <out of memory>"),
        ("c-latency0.5-auto-s0", ""),
    ]
    page = Page(write_sweep_report(tmp_path).read_text())
    assert "b search: <out of memory>" in page.text
    assert "logs/b-latency0.5-auto-s0.log" in page.values("href")
    assert "not complete: c-latency0.5-auto-s0: not done yet" in sweep_lines(facts, tmp_path)


def test_nothing_is_complete_yet(tmp_path):
    write_sweep_report(write_sweep(tmp_path, [(entry("a", 0.5, 0, complete=False), {})]))
    assert "No run is complete yet." in (tmp_path / "report.html").read_text()


def test_all_forms_say_the_same(tmp_path):
    write_large_sweep(tmp_path)
    html = write_sweep_report(tmp_path).read_text()
    page, facts = Page(html), gather_sweep(tmp_path)
    assert page.faults == []
    assert page.count("figure") == 2
    assert len(set(page.values("id"))) == len(page.values("id"))
    links = [link for link in page.values("href") if link.endswith("report.html")]
    assert len(links) == sum(len(device.runs) for device in facts.devices) == 60
    assert "192.168.100.200%3A5555-latency0.3-auto-s0/report.html" in links
    markdown = (tmp_path / "report.md").read_text()
    for variant in facts.devices[0].variants:
        figure = f"{100 * variant.accuracy.mean:.1f}\u00a0%"
        assert figure in markdown
        assert figure in html
    stored = read_json(RunFolder(tmp_path).report.with_suffix(".json"))
    assert stored["verdict"] == facts.verdict
    assert not re.search(r"https?://(?!www\.w3\.org)", html)


def test_the_same_files_give_the_same_bytes(tmp_path):
    write_large_sweep(tmp_path)
    first = write_sweep_report(tmp_path).read_bytes()
    assert write_sweep_report(tmp_path).read_bytes() == first


def test_a_folder_without_a_sweep(tmp_path):
    with pytest.raises(RunFolderError, match="holds no sweep"):
        write_sweep_report(tmp_path)

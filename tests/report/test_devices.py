"""The speed report: every device that timed the networks, what it told, and what is claimed of it."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from amc_mobile.measurements import Conditions
from amc_mobile.report.devices import fallen_back
from amc_mobile.report.facts import gather
from amc_mobile.report.write import summary_lines, write_report
from amc_mobile.runs import read_json, write_json

from .fake_run import DEVICE, PHONE, comparison, network
from .pages import Page

EMULATED = "EMULATED: function only, no speed claim"


def timed_on(run, device, **changes):
    """Writes what a further device measured."""
    run.devices.mkdir(exist_ok=True)
    found = replace(comparison(18_000.0, 9_000.0, 8_900.0, device, network()), **changes)
    write_json(run.device_comparison(device.name), found)
    return found


def text_of(run):
    return Page(write_report(run).read_text(encoding="utf-8")).text.replace("\xa0", " ")


def markdown_of(run):
    return write_report(run).with_suffix(".md").read_text(encoding="utf-8").replace("\xa0", " ")


def test_the_runs_own_device_comes_first_then_the_others_by_name(run):
    for name in ("zebra", "pixel", "192.168.1.5:5555"):
        timed_on(run, replace(PHONE, name=name))
    devices = gather(run).devices
    assert [device.info.name for device in devices] == ["host", "192.168.1.5:5555", "pixel", "zebra"]
    assert [device.own for device in devices] == [True, False, False, False]
    assert "Speed on 4 devices" in text_of(run)


def test_every_number_of_a_device_is_told(run):
    found = timed_on(run, PHONE)
    device = gather(run).devices[1]
    original, pruned, alone, int8 = device.networks
    assert pruned.latency_us == found.latency_after_us
    assert pruned.latency_ci[0] <= pruned.latency_us <= pruned.latency_ci[1]
    assert (original.speedup, pruned.speedup, int8.speedup) == (None, found.speedup, found.speedup_int8)
    assert (alone.label, alone.latency_us) == ("original_int8", found.latency_original_int8_us)
    assert (int8.load_us, int8.first_run_us) == (45_000.0, 13_500.0)
    assert pruned.peak_bytes == 50_008_000
    assert [network.file_bytes for network in device.networks] == [412_345, 151_002, 110_001, 45_678]
    text, markdown = text_of(run), markdown_of(run)
    for words in (
        "Google Tensor G2",
        "Android 14 (API 34)",
        "cores 6, 7, pinned",
        "runner: zig 0.15.1",
        "50.0 MB",
        "412 kB",
    ):
        assert words in text and words in markdown
    assert "2 timings were dropped" in text and "held its clock down: 2." in markdown
    assert "battery 80 % to 78 %" in text and "30–38 °C" in text


def test_layers_before_and_after_are_a_picture_and_a_table(run):
    timed_on(run, PHONE)
    page = Page(write_report(run).read_text(encoding="utf-8"))
    names = [layer.name for layer in network().layers]
    assert {"figure-layers", "figure-layers2", "figure-state2", "figure-rounds2"} <= set(page.values("id"))
    markdown = markdown_of(run)
    ours = markdown[markdown.index("### Google Pixel 7") :]
    rows = dict(re.findall(r"^\| (\S+|everything else) \| [\d.]+ \| [\d.]+ \| (\S+ %) \|$", ours, re.MULTILINE))
    assert [*names, "everything else"] == list(rows)
    assert set(rows.values()) == {"−50.0 %"}


def test_what_a_device_does_not_tell_is_left_out(run):
    """A comparison as the first version wrote it."""
    found = read_json(run.comparison)
    for key in [key for key in found if "int8" in key or key in ("failed", "bytes", "layers")]:
        del found[key]
    tested = read_json(run.accuracy)
    write_json(run.accuracy, {key: value for key, value in tested.items() if "int8" not in key})
    run.int8.unlink()
    for label in ("original", "pruned"):
        del found[label]["starts"], found[label]["states"]
    write_json(run.comparison, found)
    text, markdown = text_of(run), markdown_of(run)
    for words in ("int8", "First run", "Peak memory", "during the run", "everything else"):
        assert words not in text.partition("Pictures")[2].partition("Reproduce")[0]
        assert words not in markdown.partition("## Accuracy")[0]
    assert "None" not in markdown
    assert "figure-layers" in Page(run.report.read_text(encoding="utf-8")).values("id")  # the latency table's


def test_an_emulated_device_is_marked_and_claims_nothing(run):
    timed_on(run, replace(PHONE, emulated=True))
    facts = gather(run)
    assert facts.devices[1].info.emulated
    assert {network.speedup for network in facts.devices[1].networks} == {None}
    assert "pixel" not in facts.verdict.lower()
    assert EMULATED in text_of(run) and EMULATED in markdown_of(run)
    markdown = markdown_of(run)
    assert "Speed-up" not in markdown[markdown.index("### Google Pixel 7") : markdown.index("## Accuracy")]
    (line,) = [line for line in summary_lines(run) if "Pixel" in line]
    assert EMULATED in line and "x" not in line.partition(EMULATED)[0].replace("pixel", "").replace("Pixel", "")


def test_the_runs_own_device_emulated_claims_nothing_anywhere(run):
    write_json(run.comparison, comparison(5_000.0, 1_000.0, 990.0, replace(DEVICE, emulated=True), network()))
    assert gather(run).verdict.startswith("No speed claim")
    claim = re.compile(r"\b[45]\.\d\dx")
    assert not claim.search(text_of(run)) and not claim.search(markdown_of(run))
    assert not claim.search("\n".join(summary_lines(run)))


def test_an_overview_compares_several_devices(run):
    assert "Prediction off by" not in text_of(run)
    timed_on(run, PHONE)
    timed_on(run, replace(PHONE, name="emu", emulated=True))
    markdown = markdown_of(run)
    overview = markdown[markdown.index("| Device |") : markdown.index("### ")].splitlines()
    assert [line.split(" | ")[0] for line in overview[2:5]] == [
        "| AMD EPYC 9B14 (host)",
        "| Google Pixel 7 (emu)",
        "| Google Pixel 7 (pixel)",
    ]
    assert "emulated: no claim" in overview[3] and "x (" not in overview[3]
    assert overview[4].count("x (") == 2


def test_a_model_that_failed_says_why(run):
    timed_on(
        run,
        PHONE,
        int8=None,
        latency_int8_us=None,
        speedup_int8=None,
        speedup_int8_ci=None,
        original_int8=None,
        failed={"int8": "the runner crashed (signal 11)"},
    )
    words = "The pruned network in int8 was not timed: the runner crashed (signal 11)."
    assert words in text_of(run) and words in markdown_of(run)
    assert [network.label for network in gather(run).devices[1].networks] == ["original", "pruned"]


@pytest.mark.parametrize(
    ("provider", "nodes", "words"),
    [
        ("XnnpackExecutionProvider", "CPUExecutionProvider 12, XnnpackExecutionProvider 40", "12 of 52 nodes"),
        ("NNAPI", "cpu 1, nnapi 3", "1 of 4 nodes"),
        ("XnnpackExecutionProvider", "XnnpackExecutionProvider 52", ""),
        ("CPUExecutionProvider", "CPUExecutionProvider 52", ""),
        ("XnnpackExecutionProvider", "nonsense", ""),
        ("XnnpackExecutionProvider", "", ""),
    ],
)
def test_nodes_that_fell_back_to_the_processor_are_counted(provider, nodes, words):
    found = list(fallen_back(replace(PHONE, provider=provider, details={"nodes_per_provider": nodes})))
    assert [words in sentence for sentence in found] == ([True] if words else [])


def test_a_device_that_timed_an_earlier_network_is_called_so(run):
    run.model_onnx.write_bytes(b"this network")
    timed_on(run, PHONE, model_sha256=run.model_sha256())
    assert not gather(run).devices[1].stale
    run.model_onnx.write_bytes(b"the next network")
    assert gather(run).devices[1].stale
    assert "--device pixel --again" in text_of(run) and "earlier network" in "\n".join(summary_lines(run))


@pytest.mark.parametrize("content", ['{"device": ', "[1, 2]", "{}"])
def test_a_damaged_file_is_named_in_one_line_and_costs_the_others_nothing(run, content):
    timed_on(run, PHONE)
    broken = run.device_comparison("broken")
    broken.write_text(content, encoding="utf-8")
    facts = gather(run)
    assert [device.info.name for device in facts.devices] == ["host", "pixel"]
    (missing,) = [item.sentence for item in facts.missing]
    assert broken.name in missing and "\n" not in missing
    assert broken.name in text_of(run) and broken.name in "".join(summary_lines(run))


def test_a_device_without_gauges_has_no_picture_of_them(run):
    found = comparison(500.0, 250.0, 249.0, PHONE, network())
    silent = {
        label: replace(getattr(found, label), states=(Conditions("2025-01-01T00:00:00Z"),) * 9)
        for label in ("original", "pruned", "original_int8", "int8")
    }
    run.devices.mkdir()
    write_json(run.device_comparison("pixel"), replace(found, **silent))
    identifiers = Page(write_report(run).read_text(encoding="utf-8")).values("id")
    assert "figure-rounds2" in identifiers and "figure-state2" not in identifiers


def test_a_further_device_alone_makes_a_report(run):
    run.comparison.unlink()
    timed_on(run, PHONE)
    page = Page(write_report(run).read_text(encoding="utf-8"))
    identifiers = page.values("id")
    assert page.faults == [] and len(identifiers) == len(set(identifiers))
    assert {"figure-layers", "figure-layers1"} <= set(identifiers)  # by the table, and on the device
    assert "speed not measured yet" in page.text and "100 calibration images" in page.text


def test_json_says_the_same(run):
    timed_on(run, PHONE)
    devices = json.loads(write_report(run).with_suffix(".json").read_text(encoding="utf-8"))["devices"]
    assert [device["info"]["name"] for device in devices] == ["host", "pixel"]
    assert [one["label"] for one in devices[1]["networks"]] == ["original", "pruned", "original_int8", "int8"]
    assert devices[1]["layers"][-1]["layer"] == ""
    assert len(devices[1]["networks"][0]["states"]) == 9


def test_the_same_files_give_the_same_bytes(run):
    timed_on(run, PHONE)
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first

"""Accuracy against the clock as a picture: every line named, nothing written over anything else, no own colours."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from amc_mobile.report.clock_figure import ORIGINAL, ClockPoint, against_clock, against_clock_png, lines
from amc_mobile.report.drawing import STAND_INS, canvas, light, standalone
from amc_mobile.report.labels import Label, place


def points() -> list[ClockPoint]:
    """Two methods at three budgets each, and the original, in both precisions."""
    exact = [ClockPoint(ORIGINAL, "fp32", 8_000.0, 0.771, "", (7_900.0, 8_100.0), (0.73, 0.80))]
    for method, loss in (("AMC", 0.02), ("uniform", 0.2)):
        for share in (0.8, 0.65, 0.5):
            accuracy = 0.771 - loss * (1 - share) / 0.2
            exact.append(ClockPoint(method, "fp32", 8_000.0 * share, accuracy, f"{share:.0%}"))
    return exact + [replace(one, precision="int8", latency_us=one.latency_us / 2, latency_ci=None) for one in exact]


def test_every_line_has_its_name_and_points_are_labelled():
    picture = against_clock(points(), device="a phone")
    texts = {"".join(element.itertext()) for element in ET.fromstring(picture.svg).iter("text")}  # noqa: S314
    assert {"original", "original, int8", "AMC", "AMC, int8", "uniform", "uniform, int8", "65%"} <= texts
    assert "measured latency on a phone (ms)" in texts
    assert {entry.label for entry in picture.legend} == {"original", "AMC", "uniform", "fp32, filled", "int8, hollow"}
    assert "AMC, int8: 2.00 ms, 72.1 % to 3.20 ms, 75.1 %" in picture.description.replace("\u00a0", " ")


def test_a_line_goes_from_fast_to_slow_whatever_the_order():
    found = lines(points()[::-1])
    assert [point.label for point in found["AMC", "fp32"]] == ["50%", "65%", "80%"]
    assert next(iter(found))[1] == "fp32"


def test_one_network_alone_is_a_picture_too():
    assert "original" in against_clock(points()[:1]).svg


def test_the_page_decides_about_colours_and_a_file_of_its_own_brings_them():
    picture = against_clock(points())
    assert not [colour for colour in STAND_INS.values() if colour in picture.svg]
    alone = standalone(picture)
    used = set(re.findall(r"var\(--([\w-]+)\)", alone))
    assert used <= set(re.findall(r"--([\w-]+):", alone))
    assert "prefers-color-scheme: dark" in alone
    ET.fromstring(alone)  # noqa: S314


def test_the_same_networks_give_the_same_files():
    assert against_clock(points()).svg == against_clock(points()).svg
    assert against_clock_png(points()) == against_clock_png(points())
    assert against_clock_png(points()).startswith(b"\x89PNG")


def test_the_light_colours_are_those_of_every_role():
    assert STAND_INS.keys() <= light().keys()


@pytest.mark.parametrize("optional", [False, True])
def test_a_label_avoids_what_is_there_or_is_left_out(optional):
    """Ten labels at one place: those that must be shown do not overlap; of those that may go, only some stay."""
    with canvas(300, 560) as (figure, axes):
        axes.set(xlim=(0, 10), ylim=(0, 10))
        labels = [Label(f"number {number}", ((5.0, 5.0),), "#000000", optional=optional) for number in range(10)]
        place(figure, axes, labels, [(5.0, 5.0)], [[(0.0, 5.0), (10.0, 5.0)]])
        boxes = [text.get_window_extent() for text in axes.texts]
    assert not any(one.overlaps(other) for one in boxes for other in boxes if one is not other)
    assert len(boxes) == 10 if not optional else 0 < len(boxes) < 10

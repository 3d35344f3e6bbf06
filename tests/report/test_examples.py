"""Test pictures with boxes, and the words of a detector's report."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import pytest

from amc_mobile.report import sources
from amc_mobile.report.examples import Example, Examples, Found, examples_picture
from amc_mobile.report.facts import gather
from amc_mobile.report.outcome import accuracy_facts
from amc_mobile.report.tables import key_rows
from amc_mobile.report.verdict import honesty_notes, verdict
from amc_mobile.report.write import write_report
from amc_mobile.runs import read_json, write_json

ONE = Found((0.25, 0.5, 0.75, 1.0), "circle", 0.93)
PICTURES = Examples(1, 0.5, (Example("AAAA", (ONE, ONE), (ONE,)), Example("BBBB", (), (ONE,))))


def test_every_box_stands_in_its_picture():
    picture = examples_picture(PICTURES)
    root = ET.fromstring(picture.svg)  # noqa: S314 - our own
    images, boxes = root.findall("image"), root.findall("rect")
    assert [image.get("href")[-4:] for image in images] == ["AAAA", "BBBB"] * 2  # a row for each network
    assert len(boxes) == 4
    first, side = images[0], float(images[0].get("width"))
    assert float(boxes[0].get("x")) == pytest.approx(float(first.get("x")) + 0.25 * side, abs=0.2)
    assert float(boxes[0].get("width")) == pytest.approx(side / 2, abs=0.2)
    assert float(boxes[0].get("height")) == pytest.approx(side / 2, abs=0.2)
    assert "2 objects by the original, 2 by the pruned network" in picture.description
    assert {text.text for text in root.findall("text")} == {"original", "pruned", "circle 93%"}


def test_average_precision_has_no_standard_error_and_is_called_by_its_name():
    scores = sources.Tested(map=0.6, map50=0.9), sources.Tested(map=0.5, map50=0.8)
    tested = sources.Accuracy(*scores, test_images=400, metric="map")
    facts = accuracy_facts(tested)
    assert (facts.before, facts.after, facts.before_error, facts.after_error) == (0.6, 0.5, None, None)
    assert (facts.rows[0].map50, facts.rows[0].top1) == (0.9, None)
    assert "60.0\u00a0% → 50.0\u00a0% mAP" in verdict(None, None, facts, None)
    notes = " ".join(honesty_notes(facts, None, None, None))
    assert "no standard error is given" in notes
    assert "image by image" not in notes


def test_the_page_of_a_detector(run):
    scores = {name: {"map": 0.6, "map50": 0.9} for name in ("original", "pruned")}
    write_json(run.accuracy, {"metric": "map50", "test_images": 40, "search_images": 30, **scores})
    write_json(run.detections, PICTURES)
    write_report(run)
    page = run.report.read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 4
    assert '<th scope="col" class="n">mAP50</th>' in page
    assert "was not pruned and takes the same time before and after" in page
    assert any(row.name == "mAP50" for row in key_rows(gather(run)))
    assert read_json(run.report.with_suffix(".json"))["examples"] is None
    assert json.loads(run.detections.read_text())["least_certainty"] == 0.5

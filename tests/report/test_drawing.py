"""Inline SVG: colours by role, text as text, and nothing of the machine it was drawn on."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import matplotlib as mpl
import pytest

from amc_mobile.report import drawing as ink
from amc_mobile.report.drawing import canvas, to_svg


def _draw(label: str = "ms") -> str:
    with canvas(200) as (figure, axes):
        axes.plot([1, 2, 3], [3, 1, 2], "o", color=ink.AFTER)
        axes.axvline(2, color=ink.WALL)
        axes.set_xlabel(label)
        return to_svg(figure, "test", "A title", "What it shows")


def _parsed(svg: str) -> ET.Element:
    return ET.fromstring(svg)  # noqa: S314 - our own drawing


def test_colours_are_variables_and_text_is_text():
    svg = _draw("$x$ <b> & \u4e2d")
    root = _parsed(svg)
    assert "var(--after)" in svg and "var(--wall)" in svg and "#a1b2" not in svg
    assert "$x$ <b> & \u4e2d" in [text.text for text in root.iter("text")]
    assert not any("font-family" in element.get("style", "") for element in root.iter())


@pytest.mark.parametrize("shape", [*ink.FILLED, *ink.STROKED])
def test_every_legend_shape_is_drawn_in_its_colour(shape):
    entry = ink.LegendEntry(shape, "wall", "the budget")
    assert entry.outline.startswith("M")
    assert "var(--wall)" in entry.paint and ("stroke" in entry.paint) == (shape in ink.STROKED)


def test_it_scales_and_describes_itself():
    root = _parsed(_draw())
    assert root.get("viewBox") == "0 0 360 200"
    assert "width" not in root.attrib and "height" not in root.attrib
    assert root.get("aria-labelledby") == "test-title test-desc"
    assert [(child.tag, child.text) for child in root][:2] == [("title", "A title"), ("desc", "What it shows")]
    assert not {"style", "metadata"} & {element.tag for element in root.iter()}


def test_marks_of_one_series_share_one_style():
    uses = [element for element in _parsed(_draw()).iter("use") if element.get("style") is None]
    assert len(uses) == 3


def test_the_users_own_style_neither_shows_nor_changes():
    expected = _draw()
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "path", "savefig.bbox": "tight"}):
        assert _draw() == expected
        assert mpl.rcParams["font.size"] == 30


def test_a_failure_while_drawing_leaves_the_users_style():
    before = mpl.rcParams["svg.fonttype"]
    with pytest.raises(ZeroDivisionError), canvas(100):
        raise ZeroDivisionError
    assert mpl.rcParams["svg.fonttype"] == before

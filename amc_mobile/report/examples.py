"""A few test pictures with what the original and the pruned detector find in them, as people look at such things."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from xml.etree import ElementTree as ET

from amc_mobile.report.drawing import WIDTH_PX, LegendEntry, Picture

SCHEMA: Final = 1
_GAP, _TEXT, _LETTER = 4.0, 5.8, 3.4  # in the units of the drawing: between pictures; height and width of a letter
_ROWS: Final = (("original", "var(--amber)"), ("pruned", "var(--sky)"))
_MARGIN = 14.0  # for the names of the rows

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Found:
    """One object: its box as shares of the picture's width and height, its class, and how certain the network is."""

    box: Box
    label: str
    certainty: float


@dataclass(frozen=True, slots=True)
class Example:
    """One square picture as a PNG in base64, and what both networks find in it."""

    png: str
    original: tuple[Found, ...]
    pruned: tuple[Found, ...]


@dataclass(frozen=True, slots=True)
class Examples:
    """detections.json: test pictures, not chosen; `least_certainty` is that of what is shown."""

    schema: int
    least_certainty: float
    pictures: tuple[Example, ...]


def examples_picture(examples: Examples) -> Picture:
    """The pictures in two rows, the original's boxes above the pruned network's."""
    side = (WIDTH_PX - _MARGIN - _GAP * (len(examples.pictures) - 1)) / max(len(examples.pictures), 1)
    height = 2 * side + _GAP
    title = "What the detectors find"
    counts = [sum(len(getattr(example, row)) for example in examples.pictures) for row, _ in _ROWS]
    text = (
        f"{len(examples.pictures)} test pictures, chosen by nobody, and what is found in them with a certainty of at "
        f"least {examples.least_certainty:.0%}: {counts[0]} objects by the original, {counts[1]} by the pruned network."
    )
    root = ET.Element("svg", {"viewBox": f"0 0 {WIDTH_PX} {height:.1f}", "role": "img"})
    root.attrib["aria-labelledby"] = "examples-title examples-desc"
    ET.SubElement(root, "title", {"id": "examples-title"}).text = title
    ET.SubElement(root, "desc", {"id": "examples-desc"}).text = text
    for row, (name, colour) in enumerate(_ROWS):
        top = row * (side + _GAP)
        place = {"transform": f"translate(9 {top + side / 2:.1f}) rotate(-90)", "text-anchor": "middle"}
        ET.SubElement(root, "text", {**place, "style": "font-size:9px;fill:var(--muted)"}).text = name
        for column, example in enumerate(examples.pictures):
            _draw(root, example.png, getattr(example, name), (_MARGIN + column * (side + _GAP), top), side, colour)
    legend = tuple(LegendEntry("square", colour[6:-1], name) for name, colour in _ROWS)
    return Picture("examples", title, text, ET.tostring(root, encoding="unicode"), legend)


def _draw(
    root: ET.Element, png: str, found: tuple[Found, ...], corner: tuple[float, float], side: float, colour: str
) -> None:
    """One picture with boxes. Labels stand at the upper edge of their boxes, and inside the picture."""
    left, top = corner
    square = {"x": f"{left:.1f}", "y": f"{top:.1f}", "width": f"{side:.1f}", "height": f"{side:.1f}"}
    ET.SubElement(root, "image", {**square, "href": f"data:image/png;base64,{png}"})
    for one in found:
        x, y, right, bottom = (offset + side * share for offset, share in zip((left, top) * 2, one.box, strict=True))
        edges = {"x": f"{x:.1f}", "y": f"{y:.1f}", "width": f"{right - x:.1f}", "height": f"{bottom - y:.1f}"}
        ET.SubElement(root, "rect", {**edges, "style": f"fill:none;stroke:{colour};stroke-width:1.4"})
        words = f"{one.label} {one.certainty:.0%}"
        start = max(left + 1, min(x + 1.5, left + side - _LETTER * len(words)))
        place = {"x": f"{start:.1f}", "y": f"{min(max(y, top) + _TEXT, top + side - 2):.1f}"}
        style = f"font-size:{_TEXT}px;fill:#fff;stroke:#000;stroke-width:1.2px;paint-order:stroke"
        ET.SubElement(root, "text", {**place, "style": style}).text = words

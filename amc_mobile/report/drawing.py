"""From a matplotlib figure to an SVG that lives inside a page: scales, follows light and dark, clashes with no other.

Colours are drawn as stand-ins and replaced by CSS variables, so that style.css alone decides about them. Text stays
text in the page's own font. Identifiers carry the figure's name. The same figure gives the same characters.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as ET

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# role -> stand-in, a colour that occurs nowhere else; style.css defines --role
STAND_INS: Final = {
    role: f"#a1b2{number:02x}"
    for number, role in enumerate(
        (
            "surface",
            "ink",
            "muted",
            "grid",
            "before",
            "after",
            "wall",
            "green",
            "purple",
            "amber",
            "sky",
            "rose",
            "band",
            "shade",
        ),
        start=16,
    )
}
SURFACE, INK, MUTED, GRID, BEFORE, AFTER, WALL, GREEN, PURPLE, AMBER, SKY, ROSE, BAND, SHADE = STAND_INS.values()
_VARIABLES: Final = {stand_in: f"var(--{role})" for role, stand_in in STAND_INS.items()}
WIDTH_PX: Final = 360  # in the SVG's own units; a phone shows it at 0.9, a desktop's column at 1.45


def _style(colours: Mapping[str, str]) -> dict[Any, Any]:
    """The settings of matplotlib; `colours` says what each role is drawn with."""
    return {
        "svg.fonttype": "none",
        "svg.hashsalt": "amc-mobile",
        "text.parse_math": False,  # a layer may be called "$x$"
        "font.family": ["DejaVu Sans"],  # ships with matplotlib; wider than most system fonts, so nothing overlaps
        "font.size": 11,
        "axes.labelsize": 11,
        "xtick.labelsize": 10.5,
        "ytick.labelsize": 10.5,
        "axes.edgecolor": colours["grid"],
        "axes.labelcolor": colours["muted"],
        "xtick.color": colours["grid"],
        "ytick.color": colours["grid"],
        "xtick.labelcolor": colours["muted"],
        "ytick.labelcolor": colours["muted"],
        "text.color": colours["ink"],
        "grid.color": colours["grid"],
        "grid.linewidth": 0.8,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "xtick.major.size": 0,
        "ytick.major.size": 0,
        "axes.unicode_minus": True,
        "path.simplify": False,
    }


def light() -> dict[str, str]:
    """The light colours of style.css by role, for pictures that cannot follow it."""
    rules = (Path(__file__).parent / "style.css").read_text(encoding="utf-8").partition("}")[0]
    return dict(re.findall(r"--([\w-]+): (#\w+)", rules))


# shape -> its outline in a box of 16 x 12; drawn, because phones show such characters as emoji or not at all
FILLED: Final = {
    "dot": "M8 2a4 4 0 1 0 .01 0z",
    "square": "M3.5 1.5h9v9h-9z",
    "up": "M8 1l5 9.5H3z",
    "down": "M8 11L3 1.5h10z",
    "diamond": "M8 .5L13.5 6 8 11.5 2.5 6z",
    "plus": "M6.5 1h3v3.5H13v3H9.5V11h-3V7.5H3v-3h3.5z",
    "cross": "M5 1l3 3 3-3 2 2-3 3 3 3-2 2-3-3-3 3-2-2 3-3-3-3z",
    "arrow": "M4 1l9 5-9 5z",
}
STROKED: Final = {
    "line": "M0 6h16",
    "dashes": "M0 6h4.5M5.75 6h4.5M11.5 6H16",
    "wall": "M8 0v3M8 4.5v3M8 9v3",
    "ring": "M8 1.25a4.75 4.75 0 1 0 .01 0z",
    "hollow": "M8 1l5 5-5 5-5-5z",
}


@dataclass(frozen=True, slots=True)
class LegendEntry:
    """What a mark means: `shape` is one of FILLED or STROKED, `role` names its colour."""

    shape: str
    role: str
    label: str

    @property
    def outline(self) -> str:
        """SVG path data of the shape."""
        return FILLED.get(self.shape) or STROKED[self.shape]

    @property
    def paint(self) -> str:
        """How the outline is coloured, as CSS."""
        colour = f"var(--{self.role})"
        return f"fill:{colour}" if self.shape in FILLED else f"fill:none;stroke:{colour};stroke-width:2"


@dataclass(frozen=True, slots=True)
class Picture:
    """One figure of the report. `description` tells its content to who cannot see it."""

    name: str
    title: str
    description: str
    svg: str
    legend: tuple[LegendEntry, ...] = ()


@contextmanager
def canvas(
    height_px: float, width_px: float = WIDTH_PX, colours: Mapping[str, str] = STAND_INS
) -> Iterator[tuple[Figure, Axes]]:
    """An empty figure in the report's style, and its axes; draw within the `with`."""
    with panels(height_px, 1, width_px, colours) as (figure, (axes,)):
        yield figure, axes


@contextmanager
def panels(
    height_px: float, count: int, width_px: float = WIDTH_PX, colours: Mapping[str, str] = STAND_INS
) -> Iterator[tuple[Figure, list[Axes]]]:
    """As `canvas`, with several axes below each other that share their x."""
    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()  # the user's own matplotlibrc must not show
        mpl.rcParams.update(_style(colours))
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(width_px / 72, height_px / 72), layout="constrained", facecolor="none")
        all_axes = list(figure.subplots(count, sharex=True, squeeze=False)[:, 0])
        for axes in all_axes:
            axes.set_facecolor("none")
        yield figure, all_axes


def to_png(figure: Figure) -> bytes:
    """The figure as a PNG file. Call within `canvas`, drawn in colours that a file of its own may have."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=200, facecolor=light()["surface"], metadata={"Software": None})
    return buffer.getvalue()


def standalone(picture: Picture) -> str:
    """The picture as an SVG file of its own that follows light and dark."""
    css = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
    rules = css.partition("* { box-sizing")[0].replace(":root", "svg")
    style = f"<style>{rules}text {{ font-family: system-ui, sans-serif }} svg {{ background: var(--surface) }}</style>"
    return picture.svg.replace(
        "<svg ", '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" ', 1
    ).replace(">", f">{style}", 1)


def to_svg(figure: Figure, name: str, title: str, description: str) -> str:
    """The figure as an inline SVG element with a title and a description. Call within `canvas`."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    root = ET.fromstring(buffer.getvalue())  # noqa: S314 - matplotlib's own output
    _strip(root)
    _rename_ids(root, name)
    for element in root.iter():
        _tidy(element)
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    root.attrib |= {"role": "img", "aria-labelledby": f"{name}-title {name}-desc"}
    for tag, text in (("desc", description), ("title", title)):
        child = ET.Element(tag, {"id": f"{name}-{tag}"})
        child.text = text
        root.insert(0, child)
    return ET.tostring(root, encoding="unicode", short_empty_elements=True)


def _strip(root: ET.Element) -> None:
    """Removes metadata, the style sheet (it would leak into the page), namespaces and white space."""
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.rpartition("}")[2] in {"metadata", "style"}:
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
        element.tail = None
        if element.tag != "text":
            element.text = None


def _rename_ids(root: ET.Element, name: str) -> None:
    """Keeps the identifiers that something refers to, as name-1, name-2, ...; drops the others."""
    used = re.findall(r"#(\w+)", " ".join(v for e in root.iter() for k, v in e.attrib.items() if k in _REFERENCES))
    short = {old: f"{name}-{number}" for number, old in enumerate(dict.fromkeys(used), start=1)}
    for element in root.iter():
        identifier = element.attrib.pop("id", None)
        if identifier in short:
            element.attrib["id"] = short[identifier]
        for key in _REFERENCES & element.attrib.keys():
            element.attrib[key] = re.sub(r"#(\w+)", lambda found: f"#{short[found[1]]}", element.attrib[key])


_REFERENCES: Final = frozenset({"href", "clip-path"})


def _tidy(element: ET.Element) -> None:
    """Rounds coordinates, turns stand-ins into variables, and says once what all marks of a group share."""
    for key in {"d", "x", "y", "transform", "width", "height"} & element.attrib.keys():
        element.attrib[key] = _rounded(" ".join(element.attrib[key].split()))
    if element.attrib.get("transform", "").startswith("rotate(-0 "):
        del element.attrib["transform"]
    if "style" in element.attrib:
        element.attrib["style"] = _restyled(element.attrib["style"])
    styles = {child.attrib.get("style", "") for child in element}
    if len(element) > 1 and len(styles) == 1 and {child.tag for child in element} == {"use"}:
        element.attrib["style"] = _restyled(styles.pop())
        for child in element:
            child.attrib.pop("style", None)


def _rounded(text: str) -> str:
    return re.sub(r"-?\d+\.\d+", lambda found: f"{float(found[0]):.1f}".removesuffix(".0"), text)


def _restyled(style: str) -> str:
    for stand_in, variable in _VARIABLES.items():
        style = style.replace(stand_in, variable)
    parts = [part.strip().replace(": ", ":") for part in style.split(";")]
    return ";".join(part for part in parts if part and not part.startswith("font-family"))

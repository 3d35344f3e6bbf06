"""Pascal VOC's detection data as users have it: VOCdevkit/VOC2007 with Annotations, ImageSets/Main and JPEGImages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError, XMLParser

from amc_mobile.errors import DataError
from amc_mobile.models.objects import Objects, as_labels
from amc_mobile.models.pictures import FilePictures
from amc_mobile.models.readers import Source

CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"),
    *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
_LAYOUT = "a VOC folder holds Annotations/*.xml, JPEGImages/*.jpg and ImageSets/Main/trainval.txt"
_TRAIN, _TEST = ("trainval", "train"), ("test", "val")
_LARGEST_BYTES = 2**20  # of an annotation; real ones have a few thousand

Named = tuple[str, tuple[float, float, float, float], bool]  # (class, box as shares, difficult)


def read_voc(folder: Path) -> Source:
    """All pictures of trainval (or train) and test (or val) of every year in the folder; the latter are for testing.

    Where a year has neither trainval nor train, all its other pictures take their place.

    `folder` is VOCdevkit, its parent, or one year. Objects marked as difficult are ignored. VOC's own twenty classes
    keep their usual numbers; where there are others, the names are numbered alphabetically.
    Raises: DataError if something is missing or damaged.
    """
    train, test = [], []
    for year in _years(folder):
        listed, learnt = _listed(year, _TEST), _listed(year, _TRAIN)
        aside = [name for name in listed if name not in set(learnt)]
        if not learnt:
            learnt = sorted({path.stem for path in (year / "Annotations").glob("*.xml")} - set(aside))
        train += [(year, name) for name in learnt]
        test += [(year, name) for name in aside]
    pictures = [*train, *test]
    found = [_annotation(year / "Annotations" / f"{name}.xml") for year, name in pictures]
    present = {label for objects in found for label, _, _ in objects}
    names = CLASSES if present <= set(CLASSES) else tuple(sorted(present))
    numbers = {name: number for number, name in enumerate(names)}
    labels = [
        Objects.of(
            [box for _, box, _ in objects], [numbers[name] for name, _, _ in objects], [d for _, _, d in objects]
        )
        for objects in found
    ]
    paths = [_picture(year, name) for year, name in pictures]
    return Source(FilePictures(paths), as_labels(labels), len(names), len(test), names)


def _years(folder: Path) -> list[Path]:
    places = [folder, *sorted(folder.glob("VOC*")), *sorted((folder / "VOCdevkit").glob("VOC*"))]
    found = [place for place in places if (place / "Annotations").is_dir()]
    if not found:
        raise DataError(f"there is no VOC data in {folder}; {_LAYOUT}")
    return found


def _listed(year: Path, parts: Sequence[str]) -> list[str]:
    """The pictures of the first of these lists that is there."""
    for part in parts:
        path = year / "ImageSets" / "Main" / f"{part}.txt"
        if path.is_file():
            return [line.split()[0] for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return []


def _picture(year: Path, name: str) -> Path:
    for suffix in (".jpg", ".jpeg", ".png"):
        if (path := year / "JPEGImages" / f"{name}{suffix}").is_file():
            return path
    raise DataError(f"{year / 'JPEGImages'} has no picture {name}, which is listed for it; add it")


def _annotation(path: Path) -> list[Named]:
    """What a picture shows. Raises: DataError."""
    try:
        root = _parsed(path.read_bytes())
        width, height = (float(_text(root, f"size/{side}")) for side in ("width", "height"))
        return [_object(each, width, height) for each in root.iter("object")]
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; {_LAYOUT}") from error
    except (ParseError, ValueError, ZeroDivisionError, TypeError) as error:
        raise DataError(f"{path} is no VOC annotation ({error}); copy it again") from error


def _object(each: Element, width: float, height: float) -> Named:
    """One object. VOC counts pixels from 1, and its right and bottom edges are the last pixels inside."""
    left, top, right, bottom = (float(_text(each, f"bndbox/{edge}")) for edge in ("xmin", "ymin", "xmax", "ymax"))
    box = ((left - 1) / width, (top - 1) / height, right / width, bottom / height)
    return _text(each, "name").strip(), box, (each.findtext("difficult") or "0").strip() == "1"


def _text(element: Element, path: str) -> str:
    found = element.findtext(path)
    if found is None:
        raise ValueError(f"no {path}")
    return found


def _parsed(data: bytes) -> Element:
    """The document's root. Entities, by which a small file can grow without end, are refused with every DOCTYPE."""
    if len(data) > _LARGEST_BYTES or b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise ValueError("it has a DOCTYPE or is very large")
    parser = XMLParser()  # noqa: S314 - no entities, see above
    parser.feed(data)
    root: Element = parser.close()
    return root

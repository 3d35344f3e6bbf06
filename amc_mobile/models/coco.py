"""COCO's detection data as users have it: folders of pictures, and annotations/instances_*.json beside them."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from amc_mobile.errors import DataError
from amc_mobile.models.objects import Objects, as_labels
from amc_mobile.models.pictures import FilePictures
from amc_mobile.models.readers import Source

_TEST = frozenset({"val", "valid", "validation", "minival", "test", "testdev"})  # words of a file's name: for testing
_LAYOUT = "DIR/annotations/instances_train2017.json with DIR/train2017/*.jpg is what it looks like"


def read_coco(folder: Path) -> Source:
    """All pictures of DIR/annotations/instances_*.json; those of val or test, beside others, are for testing only.

    Categories are numbered in the order of their ids, `ids` keeps those. Crowds are ignored, boxes without area left
    out. Raises: DataError if something is missing or damaged, or two files tell different things of one picture.
    """
    files = sorted((folder / "annotations").glob("instances_*.json"))
    if not files:
        raise DataError(f"{folder} has no annotations/instances_*.json; {_LAYOUT}")
    parts = {path: _read(path) for path in files}
    categories = {int(entry["id"]): str(entry["name"]) for part in parts.values() for entry in part["categories"]}
    ids = tuple(sorted(categories))
    numbers = {each: number for number, each in enumerate(ids)}
    told: dict[Path, tuple[Path, Objects]] = {}
    test_images = 0
    files.sort(key=_for_testing, reverse=True)  # a picture that is tested with is not learnt from
    for path in files:
        _tell(told, folder, path, parts[path], numbers)
        test_images = len(told) if _for_testing(path) and not _for_testing(files[-1]) else test_images
    pictures = list(told)
    order = [*pictures[test_images:], *pictures[:test_images]]
    names = tuple(categories[each] for each in ids)
    labels = as_labels([told[picture][1] for picture in order])
    return Source(FilePictures(order), labels, len(ids), test_images, names, ids)


def _for_testing(path: Path) -> bool:
    return not _TEST.isdisjoint(re.split(r"[\W\d_]+", path.stem.lower()))


def _tell(
    told: dict[Path, tuple[Path, Objects]],
    folder: Path,
    path: Path,
    part: Mapping[str, Sequence[Any]],
    numbers: Mapping[int, int],
) -> None:
    """Adds what one file tells of its pictures, less what another has told. Raises: DataError if they disagree."""
    for entry, objects in zip(part["images"], _objects(part, numbers, path), strict=True):
        picture = _picture(folder, path, str(entry["file_name"]))
        other, known = told.setdefault(picture, (path, objects))
        if known != objects:
            raise DataError(f"{other} and {path} have different boxes for {picture}; keep one of the two files there")


def _read(path: Path) -> dict[str, list[Any]]:
    """The file's images, annotations and categories, each with what is needed of them."""
    try:
        content = json.loads(path.read_bytes())
        parts: dict[str, list[Any]] = {key: list(content[key]) for key in ("images", "annotations", "categories")}
        _ = [(entry["id"], entry["file_name"], int(entry["width"]), int(entry["height"])) for entry in parts["images"]]
        _ = [(entry["image_id"], entry["category_id"], len(entry["bbox"])) for entry in parts["annotations"]]
        _ = [(int(entry["id"]), entry["name"]) for entry in parts["categories"]]
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; {_LAYOUT}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is no file of COCO instances ({type(error).__name__}: {error}); copy it again"
        ) from error
    return parts


def _objects(part: Mapping[str, Sequence[Any]], numbers: Mapping[int, int], path: Path) -> list[Objects]:
    """What each of the file's images shows, in their order."""
    by_image: defaultdict[Any, list[Any]] = defaultdict(list)
    for entry in part["annotations"]:
        by_image[entry["image_id"]].append(entry)
    found = []
    for image in part["images"]:
        entries, width, height = by_image[image["id"]], image["width"], image["height"]
        try:
            corners = [(x, y, x + w, y + h) for x, y, w, h in (entry["bbox"] for entry in entries)]
            boxes = [
                (left / width, top / height, right / width, bottom / height) for left, top, right, bottom in corners
            ]
            classes = [numbers[int(entry["category_id"])] for entry in entries]
            crowds = [bool(entry.get("iscrowd", 0)) for entry in entries]
            found.append(Objects.of(boxes, classes, crowds))
        except (ValueError, TypeError, KeyError, ZeroDivisionError) as error:
            raise DataError(
                f"{path} is damaged at image {image['file_name']} ({type(error).__name__}: {error}); copy it again"
            ) from error
    return found


def _picture(folder: Path, annotations: Path, name: str) -> Path:
    """Where an image lies: in the folder of the annotations' name, in images/, or directly in DIR."""
    part = annotations.stem.removeprefix("instances_")
    places = [folder / part / name, folder / "images" / part / name, folder / "images" / name, folder / name]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise DataError(f"{annotations} names {name}, which is not in {folder / part} nor {folder / 'images'}; add it")
    return found

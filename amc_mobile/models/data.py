"""Labelled images from wherever they lie: one spec, one ImageSet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from amc_mobile.errors import DataError
from amc_mobile.models.coco import read_coco
from amc_mobile.models.objects import as_labels
from amc_mobile.models.pictures import Pictures
from amc_mobile.models.preprocessing import Preprocessing
from amc_mobile.models.readers import Source, read_archive, read_arrays, read_digits
from amc_mobile.models.shapes import read_shapes
from amc_mobile.models.torchvision_data import read_cifar10, read_image_folder
from amc_mobile.models.voc import read_voc
from amc_mobile.types import TaskName

_FORMS = "'digits', cifar10:DIR, imagefolder:DIR, or a .npz or .zip file; for detection 'shapes', coco:DIR or voc:DIR"

_BUILT_IN: Mapping[str, Callable[[], Source]] = {"digits": read_digits, "shapes": read_shapes}
_FOLDERS: Mapping[str, Callable[[Path], Source]] = {
    "cifar10": read_cifar10,
    "imagefolder": read_image_folder,
    "coco": read_coco,
    "voc": read_voc,
}
_FILES: Mapping[str, Callable[[Path], Source]] = {".npz": read_arrays, ".zip": read_archive}


@dataclass(frozen=True, slots=True)
class ImageSet:
    """Pictures with labels: classes, int64 (N,), or what every picture shows, Objects (N,).

    `held_out` are the indices that the source itself sets aside for testing, often none. `class_names`, and `ids`,
    which are COCO's own numbers of the classes, are empty where the source does not tell them.
    """

    name: str
    pictures: Pictures
    labels: np.ndarray
    classes: int
    held_out: np.ndarray
    class_names: tuple[str, ...] = ()
    ids: tuple[int, ...] = ()

    @property
    def task(self) -> TaskName:
        """What the labels teach."""
        return "detection" if self.labels.dtype == object else "classification"

    def __len__(self) -> int:
        return len(self.labels)

    def tensors(self, indices: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
        """float32 (len(indices), C, H, W), ready for the network. Raises: DataError if a picture cannot be read."""
        return preprocessing.normalised(self.pictures.pixels(indices, preprocessing))


def open_data(spec: str) -> ImageSet:
    """The images that a spec names: 'digits', 'cifar10:DIR', 'imagefolder:DIR', a .npz or a .zip file.

    For detection: 'shapes', 'coco:DIR', 'voc:DIR'. Pictures are decoded later, when they are asked for.
    Raises: DataError if the source is missing, empty, damaged, or of none of these forms.
    """
    source = _reader(spec)()
    labels = np.asarray(source.labels)
    if labels.dtype != object and (labels.dtype.kind not in "iu" or labels.ndim != 1):
        raise DataError(f"the labels of {spec} are not a list of whole numbers; number the classes from 0")
    if not len(labels):
        raise DataError(f"{spec} holds no images; give {_FORMS}")
    if len(labels) != len(source.pictures):
        raise DataError(f"{spec} holds {len(source.pictures)} images but {len(labels)} labels; write it again")
    found = source.classes if labels.dtype == object else _class_count(labels, spec)
    classes = (found or 0) if source.classes is None else source.classes
    held_out = np.arange(len(labels) - source.test_images, len(labels))
    kept = labels if labels.dtype == object else labels.astype(np.int64)
    return ImageSet(spec, source.pictures, kept, classes, held_out, source.class_names, source.ids)


def by_ids(images: ImageSet, classes: int) -> ImageSet:
    """The same images with COCO's own numbers of the classes, less one: what torchvision's published weights answer.

    The network answers so many `classes`, those included that the images do not show.
    """
    numbers = np.asarray(images.ids, np.int64) - 1
    names = dict(zip(numbers.tolist(), images.class_names, strict=True))
    return replace(
        images,
        labels=_renumbered(images.labels, numbers),
        classes=classes,
        class_names=tuple(names.get(number, "") for number in range(classes)),
        ids=(),
    )


def numbered_like(images: ImageSet, first: ImageSet) -> ImageSet:
    """The same images with the numbers that the classes of these names have in `first`.

    Unchanged where one of the two does not tell its classes' names, or both tell the same.
    Raises: DataError if `first` does not know a class.
    """
    if not images.class_names or not first.class_names or images.class_names == first.class_names:
        return images
    known = {name: number for number, name in enumerate(first.class_names)}
    if strange := [name for name in images.class_names if name not in known]:
        raise DataError(
            f"{images.name} has the class {strange[0]} ({len(strange)} such), which {first.name} does not know; give "
            "both the same classes"
        )
    labels = _renumbered(images.labels, np.asarray([known[name] for name in images.class_names], np.int64))
    return replace(images, labels=labels, classes=first.classes, class_names=first.class_names, ids=first.ids)


def _renumbered(labels: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """The labels with class `numbers[n]` in place of n."""
    if labels.dtype != object:
        return np.asarray(numbers[labels])
    return as_labels([replace(objects, classes=numbers[objects.classes]) for objects in labels])


def check_labels(images: ImageSet, classes: int, network: str, task: TaskName = "classification") -> None:
    """Makes sure that a network for this task and with so many classes can answer every label. Raises: DataError."""
    if images.task != task:
        other = "boxes" if images.task == "detection" else "no boxes"
        raise DataError(
            f"{images.name} has {other}, which {network} cannot learn from: it is for {task}; choose other data or "
            "another --model"
        )
    if task == "detection":
        if images.classes != classes:  # fewer would be counted from 0 too, and mean others
            raise DataError(
                f"{images.name} has {images.classes} classes, but {network} answers {classes}; choose other data or "
                f"set model.classes = {images.classes}, with weights that were trained so or none"
            )
    elif (largest := int(images.labels.max())) >= classes:
        raise DataError(
            f"{images.name} has labels up to {largest}, but {network} knows only {classes} classes; "
            "choose other data or another --model"
        )


def _class_count(labels: np.ndarray, spec: str) -> int:
    if labels.min() < 0:
        raise DataError(f"{spec} has the label {labels.min()}; number the classes from 0")
    return int(labels.max()) + 1


def _reader(spec: str) -> Callable[[], Source]:
    kind, _, folder = spec.partition(":")
    suffix = Path(spec).suffix.lower()
    if spec in _BUILT_IN:
        return _BUILT_IN[spec]
    if kind in _FOLDERS and folder:
        return lambda: _FOLDERS[kind](Path(folder))
    if suffix in _FILES:
        return lambda: _FILES[suffix](Path(spec))
    raise DataError(f"unknown data {spec!r}; give {_FORMS}")

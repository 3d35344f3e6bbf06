"""Labelled images from wherever they lie: one spec, one ImageSet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from amc_mobile.errors import DataError
from amc_mobile.models.pictures import Pictures
from amc_mobile.models.preprocessing import Preprocessing
from amc_mobile.models.readers import Source, read_archive, read_arrays, read_digits
from amc_mobile.models.torchvision_data import read_cifar10, read_image_folder

_FORMS = "'digits', cifar10:DIR, imagefolder:DIR, or a .npz or .zip file"


@dataclass(frozen=True, slots=True)
class ImageSet:
    """Pictures with labels. `held_out` are the indices that the source itself sets aside for testing, often none."""

    name: str
    pictures: Pictures
    labels: np.ndarray
    classes: int
    held_out: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def tensors(self, indices: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
        """float32 (len(indices), C, H, W), ready for the network. Raises: DataError if a picture cannot be read."""
        return preprocessing.normalised(self.pictures.pixels(indices, preprocessing))


def open_data(spec: str) -> ImageSet:
    """The images that a spec names: 'digits', 'cifar10:DIR', 'imagefolder:DIR', a .npz or a .zip file.

    Pictures are decoded later, when they are asked for.
    Raises: DataError if the source is missing, empty, damaged, or of none of these forms.
    """
    source = _reader(spec)()
    labels = np.asarray(source.labels)
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise DataError(f"the labels of {spec} are not a list of whole numbers; number the classes from 0")
    if not len(labels):
        raise DataError(f"{spec} holds no images; give {_FORMS}")
    if len(labels) != len(source.pictures):
        raise DataError(f"{spec} holds {len(source.pictures)} images but {len(labels)} labels; write it again")
    if labels.min() < 0:
        raise DataError(f"{spec} has the label {labels.min()}; number the classes from 0")
    classes = int(labels.max()) + 1 if source.classes is None else source.classes
    held_out = np.arange(len(labels) - source.test_images, len(labels))
    return ImageSet(spec, source.pictures, labels.astype(np.int64), classes, held_out)


def check_labels(images: ImageSet, classes: int, network: str) -> None:
    """Makes sure that a network of so many classes can answer every label. Raises: DataError."""
    if len(images) and (largest := int(images.labels.max())) >= classes:
        raise DataError(
            f"{images.name} has labels up to {largest}, but {network} knows only {classes} classes; "
            "choose other data or another --model"
        )


def _reader(spec: str) -> Callable[[], Source]:
    kind, _, folder = spec.partition(":")
    suffix = Path(spec).suffix.lower()
    if spec == "digits":
        return read_digits
    if kind == "cifar10" and folder:
        return lambda: read_cifar10(Path(folder))
    if kind == "imagefolder" and folder:
        return lambda: read_image_folder(Path(folder))
    if suffix == ".npz":
        return lambda: read_arrays(Path(spec))
    if suffix == ".zip":
        return lambda: read_archive(Path(spec))
    raise DataError(f"unknown data {spec!r}; give {_FORMS}")

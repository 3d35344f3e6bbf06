"""Readers of the data sets that torchvision knows: CIFAR-10 and folders of pictures. Nothing is downloaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torchvision.datasets import CIFAR10, ImageFolder

from amc_mobile.errors import DataError
from amc_mobile.models.pictures import ArrayPictures, FilePictures
from amc_mobile.models.readers import Source

_CIFAR_FOLDER = "cifar-10-batches-py"
_TEST_FOLDERS = ("test", "val")


def read_cifar10(folder: Path) -> Source:
    """CIFAR-10 in its official Python form: 50,000 images and 10,000 for testing.

    `folder` holds cifar-10-batches-py, or is it. Raises: DataError if it is not there or damaged.
    """
    root = folder.parent if folder.name == _CIFAR_FOLDER else folder
    try:
        parts = [CIFAR10(root, train=train, download=False) for train in (True, False)]
    except (RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        raise DataError(
            f"{root} has no whole {_CIFAR_FOLDER}; unpack the official cifar-10-python.tar.gz there"
        ) from error
    pixels = np.concatenate([part.data for part in parts])
    labels = np.concatenate([np.asarray(part.targets, np.int64) for part in parts])
    return Source(ArrayPictures(pixels), labels, classes=10, test_images=len(parts[1].targets))


def read_image_folder(folder: Path) -> Source:
    """One folder per class, numbered in the order of their names; or train/ and val/ (or test/) with such folders.

    Raises: DataError if there is no picture, a class is empty, or the two parts have other classes.
    """
    tests = [folder / name for name in _TEST_FOLDERS if (folder / name).is_dir()]
    if not (folder / "train").is_dir() or not tests:
        whole = _read_folder(folder)
        labels, names = np.asarray(whole.targets, np.int64), tuple(whole.classes)
        return Source(_pictures(whole), labels, classes=len(names), class_names=names)
    train, test = _read_folder(folder / "train"), _read_folder(tests[0])
    if train.classes != test.classes:
        raise DataError(f"{folder}/train and {tests[0]} have different classes; give both the same folders")
    labels = np.asarray([*train.targets, *test.targets], np.int64)
    names = tuple(train.classes)
    return Source(_pictures(train, test), labels, len(names), len(test.targets), names)


def _read_folder(folder: Path) -> ImageFolder:
    try:
        return ImageFolder(folder)
    except OSError as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"no images by class in {folder} ({reason}); make one folder per class") from error


def _pictures(*folders: ImageFolder) -> FilePictures:
    return FilePictures([Path(path) for folder in folders for path, _ in folder.samples])

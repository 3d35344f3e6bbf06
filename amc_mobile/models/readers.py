"""Readers of data that need no torch: scikit-learn's digits, .npz files, .zip archives with labels.csv."""

from __future__ import annotations

import csv
import io
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from sklearn.datasets import load_digits

from amc_mobile.errors import DataError
from amc_mobile.models.pictures import ArchivePictures, ArrayPictures, EncodedPictures, Pictures

_NPZ_FORMS = "images and labels; train_images, train_labels, test_images, test_labels; or jpeg, offsets, labels"


@dataclass(frozen=True, slots=True)
class Source:
    """What a reader found. The last `test_images` pictures are for testing; `classes` is None if only labels tell."""

    pictures: Pictures
    labels: np.ndarray  # classes, or Objects
    classes: int | None = None
    test_images: int = 0
    class_names: tuple[str, ...] = ()  # where the source tells them
    ids: tuple[int, ...] = ()  # COCO's own numbers of the classes


def read_digits() -> Source:
    """The 1797 handwritten digits of 8x8 pixels that come with scikit-learn."""
    bunch = load_digits()
    pixels = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    return Source(ArrayPictures(pixels), bunch.target, classes=10)


def read_arrays(path: Path) -> Source:
    """A .npz file in one of three forms: whole, divided into train and test, or JPEG bytes with offsets.

    Raises: DataError if it is missing, damaged, or has other arrays.
    """
    arrays = _load(path)
    if arrays.keys() >= {"images", "labels"}:
        return Source(ArrayPictures(_images(arrays["images"], path)), arrays["labels"])
    if arrays.keys() >= {"train_images", "train_labels", "test_images", "test_labels"}:
        return _divided(arrays, path)
    if arrays.keys() >= {"jpeg", "offsets", "labels"}:
        return Source(_encoded(arrays["jpeg"], arrays["offsets"], path), arrays["labels"])
    raise DataError(f"{path} holds {', '.join(sorted(arrays)) or 'nothing'}; it must hold {_NPZ_FORMS}")


def read_archive(path: Path) -> Source:
    """A .zip archive with pictures under images/ and labels.csv (columns file, label).

    Raises: DataError if it is missing, damaged, has no labels.csv, or lacks a picture that labels.csv names.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {PurePosixPath(name).name: name for name in archive.namelist() if name.startswith("images/")}
            table = archive.read("labels.csv").decode("utf-8")
        rows = [(row["file"], int(row["label"])) for row in csv.DictReader(io.StringIO(table))]
    except KeyError as error:
        raise DataError(f"{path} has no labels.csv with the columns file and label; add it") from error
    except OSError as error:
        raise DataError(f"cannot read data {path}: {error.strerror}; give the path of a .zip file") from error
    except (zipfile.BadZipFile, zlib.error, ValueError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error}); copy it again") from error
    if missing := [name for name, _ in rows if name not in members]:
        raise DataError(
            f"{path} has no images/{missing[0]} ({len(missing)} missing in all); take them out of labels.csv"
        )
    labels = np.asarray([label for _, label in rows], np.int64)
    return Source(ArchivePictures(path, [members[name] for name, _ in rows]), labels)


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        archive = np.load(path, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise DataError(f"{path} is one bare array; it must hold {_NPZ_FORMS}")
        with archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise DataError(f"there is no data at {path}; give the path of a .npz file") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} is damaged ({error}); copy it again") from error


def _divided(arrays: Mapping[str, np.ndarray], path: Path) -> Source:
    parts = [_images(arrays[f"{part}_images"], path) for part in ("train", "test")]
    if parts[0].shape[1:] != parts[1].shape[1:]:
        raise DataError(
            f"{path}: train images are {parts[0].shape[1:]} but test images {parts[1].shape[1:]}; make them equal"
        )
    labels = [arrays["train_labels"], arrays["test_labels"]]
    if len(parts[1]) != len(labels[1]):
        raise DataError(f"{path} holds {len(parts[1])} test images but {len(labels[1])} test labels; write it again")
    return Source(ArrayPictures(np.concatenate(parts)), np.concatenate(labels), test_images=len(parts[1]))


def _images(array: np.ndarray, path: Path) -> np.ndarray:
    if array.dtype != np.uint8 or array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[3] not in (1, 3)):
        raise DataError(
            f"{path}: images are {array.dtype} {array.shape}; they must be uint8 (N, H, W) or (N, H, W, 1 or 3)"
        )
    return array


def _encoded(jpeg: np.ndarray, offsets: np.ndarray, path: Path) -> EncodedPictures:
    whole = jpeg.dtype == np.uint8 and jpeg.ndim == offsets.ndim == 1 and offsets.dtype.kind in "iu"
    if not whole or len(offsets) < 1 or offsets[0] < 0 or offsets[-1] > len(jpeg) or np.any(np.diff(offsets) < 0):
        raise DataError(f"{path}: offsets do not divide the flat uint8 array jpeg into pictures; write it again")
    return EncodedPictures(jpeg, offsets)

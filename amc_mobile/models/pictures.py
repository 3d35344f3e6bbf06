"""Where pixels come from: arrays in memory, encoded bytes, archives, files. Decoded when asked for, in parallel."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image, UnidentifiedImageError

from amc_mobile.errors import DataError
from amc_mobile.models.preprocessing import Preprocessing


class Pictures(Protocol):
    """Pictures by index, resized and cropped for one network."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def pixels(self, indices: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
        """uint8 (len(indices), crop, crop, C). Raises: DataError if one cannot be read."""
        ...


@dataclass(frozen=True, slots=True)
class ArrayPictures:
    """Pictures in memory: uint8 (N, H, W) grey or (N, H, W, C) with one or three channels."""

    array: np.ndarray

    def __len__(self) -> int:
        return len(self.array)

    def pixels(self, indices: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
        """See Pictures. Copied as they are if size and channels fit."""
        array = self.array if self.array.ndim == 4 else self.array[..., None]
        channels, height, width = preprocessing.shape()
        if array.shape[1:3] == (height, width) and array.shape[3] in (1, channels):
            return np.broadcast_to(array[indices], (len(indices), height, width, channels))
        plain = array[..., 0] if array.shape[3] == 1 else array
        return _decoded(len(indices), lambda place: Image.fromarray(plain[indices[place]]), preprocessing, str)


@dataclass(frozen=True, slots=True)
class EncodedPictures:
    """JPEG or PNG files one after another in a flat uint8 array; picture i is data[offsets[i]:offsets[i + 1]]."""

    data: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def pixels(self, indices: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
        """See Pictures."""

        def opened(place: int) -> Image.Image:
            start, end = self.offsets[indices[place]], self.offsets[indices[place] + 1]
            return Image.open(io.BytesIO(self.data[start:end].tobytes()))

        return _decoded(len(indices), opened, preprocessing, lambda place: f"picture {indices[place]}")


@dataclass(frozen=True, slots=True)
class ArchivePictures:
    """Picture files inside a .zip archive."""

    archive: Path
    members: Sequence[str]

    def __len__(self) -> int:
        return len(self.members)

    def pixels(self, indices: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
        """See Pictures. The archive is read in one thread, the pictures are decoded in all."""
        names = [self.members[index] for index in indices]
        try:
            with zipfile.ZipFile(self.archive) as archive:
                contents = [archive.read(name) for name in names]
        except (OSError, KeyError, zipfile.BadZipFile, ValueError) as error:
            raise DataError(f"{self.archive} is damaged ({error}); copy it again") from error
        return _decoded(
            len(indices),
            lambda place: Image.open(io.BytesIO(contents[place])),
            preprocessing,
            lambda place: f"{names[place]} in {self.archive}",
        )


@dataclass(frozen=True, slots=True)
class FilePictures:
    """Picture files on disk."""

    paths: Sequence[Path]

    def __len__(self) -> int:
        return len(self.paths)

    def pixels(self, indices: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
        """See Pictures."""
        paths = [self.paths[index] for index in indices]
        return _decoded(
            len(paths), lambda place: Image.open(paths[place]), preprocessing, lambda place: str(paths[place])
        )


def _decoded(
    count: int, opened: Callable[[int], Image.Image], preprocessing: Preprocessing, name: Callable[[int], str]
) -> np.ndarray:
    """The `count` pictures that `opened` gives, prepared in a thread pool: Pillow decodes outside Python's lock."""
    channels, height, width = preprocessing.shape()
    pixels = np.empty((count, height, width, channels), np.uint8)

    def prepare(place: int) -> None:
        try:
            with opened(place) as picture:
                pixels[place] = preprocessing.cropped(picture)
        except (OSError, UnidentifiedImageError, ValueError, SyntaxError) as error:
            raise DataError(f"cannot decode {name(place)}: {error}; replace it or take it out") from error

    with ThreadPoolExecutor() as pool:
        list(pool.map(prepare, range(count)))  # waits for all, raises the first error
    return pixels

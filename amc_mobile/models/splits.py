"""Four disjoint, seeded parts of the data: what is trained on, searched with, calibrated with, and tested on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from amc_mobile.errors import DataError
from amc_mobile.models.data import ImageSet, by_ids, numbered_like, open_data
from amc_mobile.models.preprocessing import Preprocessing
from amc_mobile.sections.data import DataConfig, TransferDataConfig

_TEST_SHARE = 4  # a fourth of the images, where nothing else says how many are for testing


@dataclass(frozen=True, slots=True)
class Split:
    """Some images of a set, by their indices, which are sorted unless they were `shuffled`."""

    images: ImageSet
    indices: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def labels(self) -> np.ndarray:
        """int64 (N,)."""
        labels: np.ndarray = self.images.labels[self.indices]
        return labels

    def tensors(self, preprocessing: Preprocessing) -> np.ndarray:
        """float32 (N, C, H, W). Raises: DataError if a picture cannot be read."""
        return self.images.tensors(self.indices, preprocessing)

    def shuffled(self, seed: int) -> Split:
        """The same images in an order of chance: the sources of many are sorted by class."""
        return Split(self.images, np.random.default_rng(seed).permutation(self.indices))


@dataclass(frozen=True, slots=True)
class Splits:
    """No image is in two of them."""

    train: Split
    search: Split
    calibration: Split
    test: Split


def make_splits(config: DataConfig, seed: int, classes: int | None = None) -> Splits:
    """Divides the images as the config says; the same seed gives the same parts. `classes`: those of the network.

    Test images come from `config.test` if that is given, else from the images that the source sets aside for testing,
    else they are drawn from all: as many as `test_images`, or what `train_images` leaves over, or a fourth.
    Raises: DataError, with the counts, if there are too few images.
    """
    images = open_data(config.name)
    source = None if config.test is None else _test_source(config.test, images, classes)
    images = _numbered(images, classes)
    generator = np.random.default_rng(seed)
    order = generator.permutation(np.setdiff1d(np.arange(len(images)), images.held_out))
    advice = (
        f"lower data.search_images ({config.search_images}), data.calibration_images ({config.calibration_images}), "
        f"data.test_images ({config.test_images}) or data.train_images ({config.train_images})"
    )
    test, order = _test_part(config, images, source, order, generator, advice)
    parts = {}
    for name, wanted in (
        ("search", config.search_images),
        ("calibration", config.calibration_images),
        ("train", config.train_images),
    ):
        parts[name], order = _take(images, order, wanted, name, advice)
    return Splits(parts["train"], parts["search"], parts["calibration"], test)


def train_and_test(config: TransferDataConfig, seed: int) -> tuple[Split, Split]:
    """The images of a transfer: what is trained on, and what is tested on; the same seed gives the same parts.

    Test images come from where those of `make_splits` come from, but `train_images` leaves them alone.
    Raises: DataError for images with boxes, too few of them, fewer than two classes, or a test source with others.
    """
    whole = DataConfig(name=config.name, test=config.test, test_images=config.test_images)
    images = open_data(config.name)
    if images.task != "classification":
        raise DataError(f"{images.name} has boxes, and only classifiers are transferred; choose images without")
    generator = np.random.default_rng(seed)
    order = generator.permutation(np.setdiff1d(np.arange(len(images)), images.held_out))
    advice = "lower data.train_images or data.test_images"
    source = None if config.test is None else _test_source(config.test, images, None)
    test, order = _test_part(whole, images, source, order, generator, advice)
    train, _ = _take(images, order, config.train_images, "training", advice)
    if not len(train):
        raise DataError(f"{images.name} has no images for training; {advice}")
    if len(np.unique(images.labels)) < 2:
        raise DataError(f"{images.name} has one class only; a classifier needs images of two or more")
    if len(test) and int(test.labels.max()) >= images.classes:
        raise DataError(
            f"{test.images.name} has labels up to {int(test.labels.max())}, but {images.name} only {images.classes} "
            "classes; number the classes of both alike"
        )
    return train, test


def _test_part(
    config: DataConfig,
    images: ImageSet,
    source: ImageSet | None,
    order: np.ndarray,
    generator: np.random.Generator,
    advice: str,
) -> tuple[Split, np.ndarray]:
    """The test images, from `source` if there is one, and what is left of `order` for other parts."""
    if source is not None:
        pool = source.held_out if len(source.held_out) else np.arange(len(source))
        return _take(source, generator.permutation(pool), config.test_images, "test", advice)[0], order
    if len(images.held_out):
        pool = generator.permutation(images.held_out)
        return _take(images, pool, config.test_images, "test", advice)[0], order
    count = config.test_images
    if count is None and config.train_images is None:
        count = len(order) // _TEST_SHARE
    elif count is None and config.train_images is not None:
        count = max(1, len(order) - config.search_images - config.calibration_images - config.train_images)
    return _take(images, order, count, "test", advice)


def _test_source(spec: str, images: ImageSet, classes: int | None) -> ImageSet:
    """The images of `data.test`, their classes numbered like those of `images`, which are not `_numbered` yet."""
    if spec == images.name and not len(images.held_out):
        raise DataError(f"data.test is data.name ({spec}); leave data.test out, and a part of it is set aside")
    return _numbered(numbered_like(open_data(spec), images), classes)


def _numbered(images: ImageSet, classes: int | None) -> ImageSet:
    """With COCO's own numbers of the classes, which have gaps, where that is what the network answers."""
    if classes is None or not images.ids or len(images.ids) >= classes:
        return images
    return by_ids(images, classes) if min(images.ids) >= 1 and max(images.ids) <= classes else images


def _take(images: ImageSet, order: np.ndarray, wanted: int | None, name: str, advice: str) -> tuple[Split, np.ndarray]:
    """The next `wanted` images (None: all) as a split, and what is left."""
    count = len(order) if wanted is None else wanted
    if count > len(order):
        raise DataError(
            f"{images.name} has {len(images)} images, {len(order)} of them left for {name}, which wants {count}; "
            f"{advice}"
        )
    return Split(images, np.sort(order[:count])), order[count:]

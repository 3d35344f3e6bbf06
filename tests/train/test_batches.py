"""Streamed images are those in memory, in any order, and so is a training on them."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from amc_mobile.errors import DataError
from amc_mobile.models.preprocessing import Preprocessing
from amc_mobile.models.splits import make_splits
from amc_mobile.sections.data import DataConfig
from amc_mobile.train.batches import InMemory, Streamed, in_order, shuffled, training_images
from amc_mobile.train.fit import fit
from tests.train.networks import PLAIN, same, ten_classes

CPU = torch.device("cpu")
SMALL = Preprocessing(resize=8, crop=8, mean=(0.3,), std=(0.35,))


@pytest.fixture(scope="module")
def split():
    config = DataConfig(search_images=10, calibration_images=10, test_images=10, train_images=40)
    return make_splits(config, 0).train


def test_streamed_batches_equal_those_in_memory(split):
    parts = shuffled(np.arange(40), 7, torch.Generator().manual_seed(3))
    assert [len(part) for part in parts] == [7] * 5
    memory, stream = training_images(split, SMALL), training_images(split, SMALL, most_bytes=40 * 64 * 4 - 1)
    assert isinstance(memory, InMemory) and isinstance(stream, Streamed)
    assert len(memory) == len(stream) == 40
    found = [list(source.batches(parts, CPU)) for source in (memory, stream)]
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))
    assert torch.equal(torch.cat(found[0]), torch.from_numpy(split.tensors(SMALL))[torch.cat(parts)])


def test_a_training_on_them_is_the_same_bit_for_bit(split):
    settings = PLAIN.model_copy(update={"epochs": 2, "shift": 1, "validation_images": 5, "reestimate": 8})
    sources = [split.tensors(SMALL), Streamed(split, SMALL)]
    assert same(*(fit(ten_classes(), images, split.labels, settings, seed=2) for images in sources))


def test_an_abandoned_stream_ends(split):
    before = threading.active_count()
    stream = Streamed(split, SMALL).batches(in_order(range(40), 4), CPU)
    next(stream)
    assert threading.active_count() == before + 1  # its reader
    stream.close()
    assert threading.active_count() == before


def test_a_damaged_picture_says_so(split, monkeypatch):
    def broken(*_):
        raise DataError("cannot decode picture 3; take it out")

    monkeypatch.setattr(type(split.images), "tensors", broken)
    with pytest.raises(DataError, match="picture 3"):
        list(Streamed(split, SMALL).batches(in_order(range(8), 4), CPU))


def test_identities_tell_images_apart(split):
    other = Preprocessing(resize=8, crop=8, mean=(0.4,), std=(0.35,))
    assert Streamed(split, SMALL).identity() == Streamed(split, SMALL).identity() != Streamed(split, other).identity()
    images = np.zeros((2, 1, 4, 4), np.float32)
    assert InMemory(images).identity() == InMemory(images.copy()).identity() != InMemory(images + 1).identity()

"""Four parts, never an image in two of them, the same ones for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from amc_mobile.errors import DataError
from amc_mobile.models.splits import make_splits, train_and_test
from amc_mobile.models.zoo import find
from amc_mobile.sections.data import DataConfig, TransferDataConfig

PARTS = ("train", "search", "calibration", "test")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """40 images; 30 + 10 divided; 12 others."""
    folder = tmp_path_factory.mktemp("data")
    images = np.zeros((40, 4, 4), np.uint8)
    labels = np.arange(40) % 5
    np.savez(folder / "whole.npz", images=images, labels=labels)
    np.savez(
        folder / "divided.npz",
        train_images=images[:30],
        train_labels=labels[:30],
        test_images=images[30:],
        test_labels=labels[30:],
    )
    np.savez(folder / "other.npz", images=images[:12], labels=labels[:12])
    return {path.stem: str(path) for path in folder.iterdir()}


def indices(splits):
    return {part: getattr(splits, part).indices for part in PARTS}


@settings(max_examples=40)
@given(
    name=st.sampled_from(["whole", "divided"]),
    search=st.integers(1, 12),
    calibration=st.integers(1, 12),
    test=st.none() | st.integers(1, 12),
    train=st.none() | st.integers(0, 12),
    seed=st.integers(0, 9),
)
def test_parts_are_disjoint_and_as_large_as_wanted(files, name, search, calibration, test, train, seed):
    config = DataConfig(
        name=files[name], search_images=search, calibration_images=calibration, test_images=test, train_images=train
    )
    try:
        parts = indices(make_splits(config, seed))
    except DataError as error:
        few = name == "divided" and (test or 0) > 10
        assert few or search + calibration + (test or 1) + (train or 0) > 30, error  # else there are enough
        return
    together = np.concatenate(list(parts.values()))
    assert len(np.unique(together)) == len(together)
    assert (len(parts["search"]), len(parts["calibration"])) == (search, calibration)
    assert test is None or len(parts["test"]) == test
    assert train is None or len(parts["train"]) == train
    assert test is not None or len(parts["test"]) > 0
    again = indices(make_splits(config, seed))
    assert all(np.array_equal(parts[part], again[part]) for part in PARTS)
    if name == "divided":
        assert parts["test"].min() >= 30 > max(parts[part].max(initial=0) for part in PARTS[:3])


def test_digits_are_divided_into_four():
    splits = make_splits(DataConfig(search_images=300, calibration_images=200), 0)
    assert [len(getattr(splits, part)) for part in PARTS] == [848, 300, 200, 449]
    assert splits.test.labels.shape == (449,)
    assert splits.search.tensors(find("digits").preprocessing).shape == (300, 1, 32, 32)


def test_another_seed_gives_other_parts(files):
    config = DataConfig(name=files["whole"], search_images=10, calibration_images=10)
    assert indices(make_splits(config, 1))["test"].tolist() != indices(make_splits(config, 2))["test"].tolist()


def test_fewer_training_images_do_not_move_the_test_images(files):
    config = DataConfig(name=files["whole"], search_images=5, calibration_images=5, test_images=8)
    less = config.model_copy(update={"train_images": 3})
    assert indices(make_splits(config, 1))["test"].tolist() == indices(make_splits(less, 1))["test"].tolist()


def test_a_second_source_is_only_for_testing(files):
    config = DataConfig(name=files["whole"], test=files["other"], search_images=20, calibration_images=20)
    splits = make_splits(config, 0)
    assert (len(splits.train), len(splits.test)) == (0, 12)
    assert splits.test.images.name == files["other"]
    config = DataConfig(name=files["whole"], test=files["divided"], search_images=1, calibration_images=1)
    assert make_splits(config, 0).test.indices.tolist() == list(range(30, 40))


def test_the_same_source_twice_is_refused(files):
    with pytest.raises(DataError, match=r"data.test is data.name"):
        make_splits(DataConfig(name=files["whole"], test=files["whole"]), 0)


def test_too_few_images_are_counted(files):
    config = DataConfig(name=files["whole"], search_images=25, calibration_images=10)
    with pytest.raises(DataError, match="has 40 images, 5 of them left for calibration, which wants 10") as caught:
        make_splits(config, 0)
    assert "data.search_images (25)" in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "train", "test"),
    [
        ({"name": "whole"}, 30, 10),
        ({"name": "whole", "train_images": 7}, 7, 10),
        ({"name": "whole", "test_images": 4}, 36, 4),
        ({"name": "divided"}, 30, 10),
        ({"name": "whole", "test": "other"}, 40, 12),
        ({"name": "whole", "test": "divided", "test_images": 3, "train_images": 5}, 5, 3),
    ],
)
def test_a_transfer_needs_two_parts_only(files, settings, train, test):
    named = {key: files.get(value, value) if isinstance(value, str) else value for key, value in settings.items()}
    parts = train_and_test(TransferDataConfig(**named), seed=3)
    assert [len(part) for part in parts] == [train, test]
    again = train_and_test(TransferDataConfig(**named), seed=3)
    assert all(np.array_equal(one.indices, two.indices) for one, two in zip(parts, again, strict=True))
    if "test" not in settings:
        assert not set(parts[0].indices) & set(parts[1].indices)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"train_images": 31}, "30 of them left for training, which wants 31; lower data.train_images"),
        ({"test_images": 40}, "no images for training"),
        ({"test_images": 41}, "which wants 41; lower data.train_images or data.test_images"),
    ],
)
def test_a_transfer_with_too_few_images_says_what_to_lower(files, settings, said):
    with pytest.raises(DataError, match=said):
        train_and_test(TransferDataConfig(name=files["whole"], **settings), seed=0)


def test_folders_for_testing_that_lack_a_class_are_numbered_like_the_first(tmp_path):
    for place in ("train/ant", "train/bee", "train/cow", "test/ant", "test/cow"):
        (tmp_path / place).mkdir(parents=True)
        for number in range(3):
            Image.new("L", (4, 4)).save(tmp_path / place / f"{number}.png")
    names = {part: f"imagefolder:{tmp_path / part}" for part in ("train", "test")}
    test = train_and_test(TransferDataConfig(name=names["train"], test=names["test"]), seed=0)[1]
    assert np.unique(test.labels).tolist() == [0, 2]
    config = DataConfig(name=names["train"], test=names["test"], search_images=1, calibration_images=1)
    assert np.unique(make_splits(config, 0).test.labels).tolist() == [0, 2]
    with pytest.raises(DataError, match="has the class bee"):
        train_and_test(TransferDataConfig(name=names["test"], test=names["train"]), seed=0)


def test_boxes_are_not_transferred():
    with pytest.raises(DataError, match="only classifiers"):
        train_and_test(TransferDataConfig(name="shapes"), seed=0)


def test_a_shuffled_split_has_the_same_images_in_an_order_of_chance(files):
    """Else the last images, which the refresh does not fit to, would be of other classes where files lie by class."""
    split = make_splits(DataConfig(name=files["whole"], search_images=4, calibration_images=24), 3).calibration
    once = split.shuffled(3)
    assert np.array_equal(np.sort(once.indices), split.indices)
    assert np.count_nonzero(np.diff(once.indices) < 0) >= 6
    assert np.array_equal(once.indices, split.shuffled(3).indices)
    assert np.array_equal(once.labels, split.images.labels[once.indices])

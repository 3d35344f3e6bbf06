"""Every form of data: what is read, in which order, and how what is missing or damaged is refused."""

from __future__ import annotations

import io
import pickle
import zipfile

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import cifar

from amc_mobile.errors import DataError
from amc_mobile.models.data import check_labels, open_data
from amc_mobile.models.preprocessing import Preprocessing

PLAIN = Preprocessing(resize=8, crop=8, mean=(0.0,) * 3, std=(1.0,) * 3)


def pictures(count, seed=0, shape=(8, 8, 3)):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def encoded(pixels, form="png"):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form)
    return stream.getvalue()


def pixels_of(images, indices):
    """Prepared images as uint8 (N, H, W, C) again."""
    return np.round(np.moveaxis(images.tensors(np.asarray(indices), PLAIN), 1, -1) * 255).astype(np.uint8)


def test_digits_are_embedded():
    images = open_data("digits")
    assert (len(images), images.classes, len(images.held_out)) == (1797, 10, 0)
    tensors = images.tensors(np.arange(3), Preprocessing(32, 32, (0.0,), (1.0,)))
    assert tensors.shape == (3, 1, 32, 32)
    assert tensors.min() >= 0
    assert tensors.max() == 1


def test_npz_of_images_and_labels(tmp_path):
    array = pictures(5)
    np.savez(tmp_path / "a.npz", images=array, labels=np.arange(5, dtype=np.uint8))
    images = open_data(str(tmp_path / "a.npz"))
    assert images.labels.dtype == np.int64
    assert images.classes == 5
    np.testing.assert_array_equal(pixels_of(images, [4, 0, 4]), array[[4, 0, 4]])


def test_npz_divided_into_train_and_test_and_grey(tmp_path):
    train, test = pictures(4, 1, (8, 8)), pictures(2, 2, (8, 8))
    arrays = {"train_images": train, "train_labels": [0, 1, 2, 1], "test_images": test, "test_labels": [2, 0]}
    np.savez(tmp_path / "a.npz", **arrays)
    images = open_data(str(tmp_path / "a.npz"))
    assert images.held_out.tolist() == [4, 5]
    assert images.labels.tolist() == [0, 1, 2, 1, 2, 0]
    np.testing.assert_array_equal(pixels_of(images, [5])[0, ..., 2], test[1])


def test_npz_of_encoded_pictures(tmp_path):
    array = pictures(3)
    files = [encoded(pixels) for pixels in array]
    np.savez(
        tmp_path / "a.npz",
        jpeg=np.frombuffer(b"".join(files), np.uint8),
        offsets=np.cumsum([0, *map(len, files)]),
        labels=np.asarray([3, 1, 2]),
    )
    images = open_data(str(tmp_path / "a.npz"))
    np.testing.assert_array_equal(pixels_of(images, [2, 0]), array[[2, 0]])


def write_zip(path, array, table):
    with zipfile.ZipFile(path, "w") as archive:
        for index, pixels in enumerate(array):
            archive.writestr(f"images/{index}.png", encoded(pixels))
        archive.writestr("labels.csv", table)


def test_zip_with_labels(tmp_path):
    array = pictures(3)
    write_zip(tmp_path / "a.zip", array, "file,label\n2.png,7\n0.png,1\n1.png,0\n")
    images = open_data(str(tmp_path / "a.zip"))
    assert images.labels.tolist() == [7, 1, 0]
    np.testing.assert_array_equal(pixels_of(images, [0, 1, 2]), array[[2, 0, 1]])


def test_folders_by_class(tmp_path):
    array = pictures(3)
    for name, pixels in zip(["cat/b.png", "ant/x.png", "cat/a.png"], array, strict=True):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(encoded(pixels))
    images = open_data(f"imagefolder:{tmp_path}")
    assert images.labels.tolist() == [0, 1, 1]
    np.testing.assert_array_equal(pixels_of(images, [0, 1, 2]), array[[1, 2, 0]])


def test_folders_divided_into_train_and_val(tmp_path):
    for part in ("train", "val"):
        for name in ("ant", "cat"):
            (tmp_path / part / name).mkdir(parents=True)
            (tmp_path / part / name / "1.png").write_bytes(encoded(pictures(1)[0]))
    images = open_data(f"imagefolder:{tmp_path}")
    assert (len(images), images.classes, images.held_out.tolist()) == (4, 2, [2, 3])
    (tmp_path / "val" / "dog").mkdir()
    (tmp_path / "val" / "dog" / "1.png").write_bytes(encoded(pictures(1)[0]))
    with pytest.raises(DataError, match="different classes"):
        open_data(f"imagefolder:{tmp_path}")


def test_cifar10_in_its_official_form(tmp_path, monkeypatch):
    """Three pictures per batch, written as the official Python version has them; only its checksums are not theirs."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    monkeypatch.setattr(cifar, "check_integrity", lambda *_: True)
    array = pictures(18, shape=(32, 32, 3))
    for index, name in enumerate([*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]):
        part = array[3 * index : 3 * index + 3].transpose(0, 3, 1, 2).reshape(3, -1)
        (folder / name).write_bytes(pickle.dumps({"data": part, "labels": [index, 8, 9]}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [str(number) for number in range(10)]}))
    for where in (tmp_path, folder):
        images = open_data(f"cifar10:{where}")
        assert (len(images), images.classes, images.held_out.tolist()) == (18, 10, [15, 16, 17])
        assert images.labels[15:].tolist() == [5, 8, 9]
        rgb = Preprocessing(32, 32, (0.0,) * 3, (1.0,) * 3)
        back = np.moveaxis(images.tensors(np.asarray([17]), rgb)[0], 0, -1) * 255
        np.testing.assert_allclose(back, array[17], atol=1e-3)


@pytest.mark.parametrize("spec", ["cifar11", "cifar10:", "photos.tar", ""])
def test_unknown_forms_are_refused(spec):
    with pytest.raises(DataError, match=r"unknown data .*give 'digits'"):
        open_data(spec)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("cifar10:{}/none", "unpack the official cifar-10-python.tar.gz there"),
        ("imagefolder:{}/none", "make one folder per class"),
        ("{}/none.npz", "there is no data at"),
        ("{}/none.zip", "cannot read data .*No such file"),
    ],
)
def test_missing_data_is_refused(tmp_path, spec, message):
    with pytest.raises(DataError, match=message) as caught:
        open_data(spec.format(tmp_path))
    assert "\n" not in str(caught.value)


def test_an_empty_class_folder_is_refused(tmp_path):
    (tmp_path / "cat").mkdir()
    with pytest.raises(DataError, match="no images by class"):
        open_data(f"imagefolder:{tmp_path}")


GOOD = {"images": pictures(2), "labels": np.arange(2)}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros(3)}, "holds x; it must hold images and labels"),
        ({}, "holds nothing"),
        (GOOD | {"images": pictures(0)}, "holds 0 images but 2 labels"),
        ({"images": pictures(0), "labels": np.zeros(0, int)}, "holds no images"),
        (GOOD | {"images": GOOD["images"].astype(float)}, "they must be uint8"),
        (GOOD | {"images": pictures(2, shape=(8, 8, 4))}, "they must be uint8"),
        (GOOD | {"labels": np.asarray([0.5, 1.0])}, "not a list of whole numbers"),
        (GOOD | {"labels": np.asarray([-1, 0])}, "has the label -1"),
        ({"jpeg": np.zeros(4, np.uint8), "offsets": np.asarray([0, 9]), "labels": [0]}, "offsets do not divide"),
        ({"jpeg": np.zeros(4, np.uint8), "offsets": np.asarray([3, 1]), "labels": [0]}, "offsets do not divide"),
        (
            {"train_images": pictures(2), "train_labels": [0, 1], "test_images": pictures(1), "test_labels": [0, 1]},
            "1 test images but 2 test labels",
        ),
        (
            {
                "train_images": pictures(1),
                "train_labels": [0],
                "test_images": pictures(1, 0, (9, 9)),
                "test_labels": [0],
            },
            "make them equal",
        ),
    ],
)
def test_npz_files_with_other_contents_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message):
        open_data(str(tmp_path / "a.npz"))


def test_damaged_files_are_refused(tmp_path):
    np.savez(tmp_path / "whole.npz", **GOOD)
    cut = (tmp_path / "whole.npz").read_bytes()[:-200]
    for name, data in (
        ("cut.npz", cut),
        ("cut.zip", cut),
        ("text.npz", b"hello"),
        ("empty.npz", b""),
        ("text.zip", b"x"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match="is damaged"):
            open_data(str(tmp_path / name))
    np.save(tmp_path / "bare.npy", GOOD["images"])
    (tmp_path / "bare.npy").rename(tmp_path / "bare.npz")
    with pytest.raises(DataError, match="one bare array"):
        open_data(str(tmp_path / "bare.npz"))


def test_pickled_arrays_are_not_unpickled(tmp_path):
    np.savez(tmp_path / "a.npz", images=pictures(1), labels=np.asarray([{"a": 1}], object))
    with pytest.raises(DataError, match="is damaged"):
        open_data(str(tmp_path / "a.npz"))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("name,class\n0.png,1\n", "no labels.csv with the columns file and label"),
        ("file,label\n0.png,x\n", "is damaged"),
        ("file,label\n5.png,0\n", r"has no images/5.png \(1 missing in all\)"),
        ("file,label\n", "holds no images"),
    ],
)
def test_zip_tables_that_do_not_fit_are_refused(tmp_path, table, message):
    write_zip(tmp_path / "a.zip", pictures(1), table)
    with pytest.raises(DataError, match=message):
        open_data(str(tmp_path / "a.zip"))


def test_zip_without_a_table_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("images/0.png", b"x")
    with pytest.raises(DataError, match=r"no labels\.csv"):
        open_data(str(tmp_path / "a.zip"))


def test_a_picture_that_cannot_be_decoded_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("images/bad.jpg", b"no picture")
        archive.writestr("labels.csv", "file,label\nbad.jpg,0\n")
    with pytest.raises(DataError, match=r"cannot decode images/bad.jpg in .*a\.zip"):
        pixels_of(open_data(str(tmp_path / "a.zip")), [0])
    data = {"jpeg": np.zeros(8, np.uint8), "offsets": np.asarray([0, 4, 8]), "labels": [0, 1]}
    np.savez(tmp_path / "a.npz", **data)
    with pytest.raises(DataError, match="cannot decode picture 1"):
        pixels_of(open_data(str(tmp_path / "a.npz")), [1])


def test_labels_must_fit_the_network():
    images = open_data("digits")
    check_labels(images, 10, "digits")
    with pytest.raises(DataError, match="labels up to 9, but small knows only 7 classes"):
        check_labels(images, 7, "small")

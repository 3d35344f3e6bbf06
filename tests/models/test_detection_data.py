"""Pictures with boxes: the drawn ones, COCO's and VOC's folders; what is missing or damaged is refused in one line."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from amc_mobile.errors import DataError
from amc_mobile.models.data import by_ids, check_labels, open_data
from amc_mobile.models.objects import Objects
from amc_mobile.models.preprocessing import Preprocessing
from amc_mobile.models.splits import make_splits
from amc_mobile.sections.data import DataConfig

SQUARE = Preprocessing(32, 32, (0.0,) * 3, (1.0,) * 3, stretch=True)


def picture(path, width=40, height=20):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (200, 10, 10)).save(path)


def test_shapes_follow_from_their_index_alone():
    images = open_data("shapes")
    assert (images.task, images.classes, images.class_names) == ("detection", 3, ("circle", "square", "triangle"))
    first, again = (images.tensors(np.array(places), SQUARE) for places in ([7, 3], [3]))
    np.testing.assert_array_equal(first[1], again[0])
    assert first.shape == (2, 3, 32, 32)
    other = open_data("shapes")
    assert all(np.array_equal(a.boxes, b.boxes) for a, b in zip(images.labels, other.labels, strict=True))
    counts = np.array([len(objects) for objects in images.labels])
    assert counts.min() >= 1
    assert counts.max() == 4
    boxes = np.concatenate([objects.boxes for objects in images.labels])
    assert ((boxes[:, 2:] > boxes[:, :2]) & (boxes[:, :2] >= 0) & (boxes[:, 2:] <= 1)).all()


def test_a_shape_fills_its_box():
    images = open_data("shapes")
    index = next(number for number, objects in enumerate(images.labels) if len(objects) == 1)
    whole = images.pictures.pixels(np.array([index]), Preprocessing(128, 128, stretch=True))[0].astype(float)
    left, top, right, bottom = np.round(images.labels[index].boxes[0] * 128).astype(int)
    middle = whole[(top + bottom) // 2, (left + right) // 2]
    outside = np.ones(whole.shape[:2], bool)
    outside[top:bottom, left:right] = False
    assert np.abs(whole[outside].mean(axis=0) - middle).sum() > 30


def test_boxes_are_cut_and_those_without_area_left_out():
    objects = Objects.of([(-0.1, 0.2, 0.5, 1.4), (0.3, 0.3, 0.3, 0.9)], [1, 0], [False, True])
    np.testing.assert_allclose(objects.boxes, [[0, 0.2, 0.5, 1.0]])
    assert objects.classes.tolist() == [1]
    assert len(Objects.of([], [])) == 0


def coco(folder, part="train2017", count=3, **changes):
    """A tiny COCO: ids 1 and 44, a crowd, a box without area, an image without boxes."""
    for number in range(count):
        picture(folder / part / f"{number}.jpg")
    boxes = [
        {"image_id": 0, "category_id": 44, "bbox": [10, 5, 20, 10], "iscrowd": 0},
        {"image_id": 0, "category_id": 1, "bbox": [0, 0, 40, 20], "iscrowd": 1},
        {"image_id": 1, "category_id": 1, "bbox": [3, 3, 0, 9], "iscrowd": 0},
    ]
    content = {
        "images": [{"id": n, "file_name": f"{n}.jpg", "width": 40, "height": 20} for n in range(count)],
        "annotations": boxes,
        "categories": [{"id": 44, "name": "bottle"}, {"id": 1, "name": "person"}],
        **changes,
    }
    path = folder / "annotations" / f"instances_{part}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return folder


def test_coco(tmp_path):
    coco(tmp_path)
    coco(tmp_path, "val2017", 2, annotations=[])
    images = open_data(f"coco:{tmp_path}")
    assert (len(images), images.classes, images.class_names, images.ids) == (5, 2, ("person", "bottle"), (1, 44))
    assert images.held_out.tolist() == [3, 4]
    first = images.labels[0]
    np.testing.assert_allclose(first.boxes[0], [0.25, 0.25, 0.75, 0.75])
    assert first.classes.tolist() == [1, 0]
    assert first.ignored.tolist() == [False, True]
    assert [len(objects) for objects in images.labels[1:]] == [0, 0, 0, 0]
    assert images.tensors(np.arange(2), SQUARE).shape == (2, 3, 32, 32)


def test_cocos_own_numbers_for_published_weights(tmp_path):
    images = open_data(f"coco:{coco(tmp_path)}")
    assert by_ids(images, 90).labels[0].classes.tolist() == [43, 0]
    settings = DataConfig(name=f"coco:{tmp_path}", search_images=1, calibration_images=1, test_images=1)
    assert make_splits(settings, 0, classes=44).test.images.classes == 44
    assert make_splits(settings, 0, classes=2).test.images.classes == 2
    published = make_splits(settings, 0, classes=90).search.images
    assert published.classes == 90
    assert [published.class_names[number] for number in published.labels[0].classes] == ["bottle", "person"]


def test_a_picture_of_two_files_is_tested_with_and_not_learnt_from(tmp_path):
    """CVAT writes instances_default.json with all pictures; trainval is for training whatever is in its name."""
    shared = {"images": [{"id": n, "file_name": f"{n}.jpg", "width": 40, "height": 20} for n in range(6)]}
    for number in range(6):
        picture(tmp_path / "images" / f"{number}.jpg")
    coco(tmp_path, "default", 0, annotations=[], **shared)
    coco(tmp_path, "val", 0, annotations=[], images=shared["images"][4:])
    images = open_data(f"coco:{tmp_path}")
    assert (len(images), images.held_out.tolist()) == (6, [4, 5])
    (tmp_path / "annotations" / "instances_default.json").rename(
        tmp_path / "annotations" / "instances_trainval2007.json"
    )
    assert open_data(f"coco:{tmp_path}").held_out.tolist() == [4, 5]
    (tmp_path / "annotations" / "instances_val.json").unlink()
    assert not len(open_data(f"coco:{tmp_path}").held_out)


def test_two_files_that_disagree_about_a_picture_are_refused(tmp_path):
    coco(tmp_path, "images", 3)
    coco(tmp_path, "others", 0, annotations=[], images=[{"id": 0, "file_name": "0.jpg", "width": 40, "height": 20}])
    with pytest.raises(DataError, match=r"instances_images\.json and .*others\.json have different boxes for .*0\.jpg"):
        open_data(f"coco:{tmp_path}")


def test_the_classes_of_the_test_source_mean_what_they_mean_in_the_first(tmp_path):
    first = coco(tmp_path / "a")
    boxes = [{"image_id": 0, "category_id": 7, "bbox": [10, 5, 20, 10]}]
    coco(tmp_path / "b", annotations=boxes, categories=[{"id": 7, "name": "bottle"}])
    settings = DataConfig(name=f"coco:{first}", test=f"coco:{tmp_path / 'b'}", search_images=1, calibration_images=1)
    assert make_splits(settings, 0).test.labels[0].classes.tolist() == [1]
    assert make_splits(settings, 0, classes=44).test.labels[0].classes.tolist() == [43]
    coco(tmp_path / "b", annotations=[], categories=[{"id": 7, "name": "zebra"}])
    with pytest.raises(DataError, match="has the class zebra"):
        make_splits(settings, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": [{"id": 0, "file_name": "away.jpg", "width": 4, "height": 4}]}, r"away\.jpg.*add it"),
        ({"categories": []}, "damaged at image 0.jpg"),
        ({"annotations": [{"image_id": 0}]}, "no file of COCO instances"),
        ({"annotations": [{"image_id": 0, "category_id": 1, "bbox": [1, 2, 3, "x"]}]}, "damaged at image"),
    ],
)
def test_damaged_coco(tmp_path, change, message):
    coco(tmp_path, **change)
    with pytest.raises(DataError, match=message) as caught:
        open_data(f"coco:{tmp_path}")
    assert "\n" not in str(caught.value)


def test_no_coco(tmp_path):
    with pytest.raises(DataError, match=r"no annotations/instances_"):
        open_data(f"coco:{tmp_path}")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_train.json").write_text("{")
    with pytest.raises(DataError, match="no file of COCO instances"):
        open_data(f"coco:{tmp_path}")


OBJECT = """<object><name>{name}</name><difficult>{difficult}</difficult>
<bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"""


def voc(folder, names, objects=(("dog", 0, (11, 6, 30, 15)), ("cat", 1, (1, 1, 40, 20))), test=()):
    year = folder / "VOC2007"
    body = "".join(OBJECT.format(name=name, difficult=hard, box=box) for name, hard, box in objects)
    for name in (*names, *test):
        picture(year / "JPEGImages" / f"{name}.jpg")
        path = year / "Annotations" / f"{name}.xml"
        path.parent.mkdir(exist_ok=True)
        size = "<size><width>40</width><height>20</height></size>"
        path.write_text(f"<annotation>{size}{body}</annotation>")
    lists = year / "ImageSets" / "Main"
    lists.mkdir(parents=True, exist_ok=True)
    (lists / "trainval.txt").write_text("\n".join(names))
    (lists / "test.txt").write_text("\n".join(test))
    return year


@pytest.mark.parametrize("place", ["", "VOC2007"])
def test_voc(tmp_path, place):
    voc(tmp_path, ["000001", "000002"], test=["000003"])
    images = open_data(f"voc:{tmp_path / place}")
    assert (len(images), images.classes) == (3, 20)
    assert images.held_out.tolist() == [2]
    first = images.labels[0]
    np.testing.assert_allclose(first.boxes, [[0.25, 0.25, 0.75, 0.75], [0, 0, 1, 1]])
    assert [images.class_names[number] for number in first.classes] == ["dog", "cat"]
    assert first.ignored.tolist() == [False, True]


def test_voc_without_a_list_for_training_keeps_the_test_pictures_apart(tmp_path):
    year = voc(tmp_path, ["000001", "000002"], test=["000003"])
    (year / "ImageSets" / "Main" / "trainval.txt").unlink()
    images = open_data(f"voc:{tmp_path}")
    assert (len(images), images.held_out.tolist()) == (3, [2])


def test_voc_with_other_classes(tmp_path):
    voc(tmp_path, ["a"], [("zebra", 0, (1, 1, 9, 9)), ("apple", 0, (1, 1, 9, 9))])
    images = open_data(f"voc:{tmp_path}")
    assert images.class_names == ("apple", "zebra")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<annotation>", "no VOC annotation"),
        ("<annotation><object/></annotation>", "no size/width"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>', "DOCTYPE"),
    ],
)
def test_damaged_voc(tmp_path, content, message):
    year = voc(tmp_path, ["a"])
    (year / "Annotations" / "a.xml").write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        open_data(f"voc:{tmp_path}")
    assert "\n" not in str(caught.value)


def test_missing_parts_of_voc(tmp_path):
    with pytest.raises(DataError, match="no VOC data"):
        open_data(f"voc:{tmp_path}")
    year = voc(tmp_path, ["a", "b"])
    (year / "JPEGImages" / "b.jpg").unlink()
    with pytest.raises(DataError, match="no picture b"):
        open_data(f"voc:{tmp_path}")
    (year / "Annotations" / "b.xml").unlink()
    with pytest.raises(DataError, match=r"cannot read .*b\.xml"):
        open_data(f"voc:{tmp_path}")


def test_data_must_suit_the_network():
    shapes, digits = open_data("shapes"), open_data("digits")
    check_labels(shapes, 3, "a detector", "detection")
    with pytest.raises(DataError, match="has boxes"):
        check_labels(shapes, 10, "digits")
    with pytest.raises(DataError, match="has no boxes"):
        check_labels(digits, 3, "a detector", "detection")
    for classes in (2, 90):
        with pytest.raises(DataError, match=r"set model\.classes = 3"):
            check_labels(shapes, classes, "a detector", "detection")


def test_a_stretched_picture_keeps_everything():
    wide = Image.new("RGB", (40, 20))
    wide.putpixel((0, 0), (255, 255, 255))
    wide.putpixel((39, 19), (255, 255, 255))
    pixels = SQUARE.cropped(wide)
    assert pixels.shape == (32, 32, 3)
    assert pixels[0, 0].min() > 50
    assert pixels[-1, -1].min() > 50

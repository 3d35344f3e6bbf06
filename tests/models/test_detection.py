"""How detections are judged: COCO's measure by torchmetrics, on answers whose quality is known."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from amc_mobile.errors import ConfigError
from amc_mobile.models.average_precision import average_precision, targets
from amc_mobile.models.detection import Detection
from amc_mobile.models.objects import Objects, as_labels
from amc_mobile.models.task import Classification, task_of
from amc_mobile.models.zoo import find

LABELS = as_labels(
    [
        Objects.of([(0.1, 0.1, 0.5, 0.5), (0.5, 0.5, 0.9, 0.9)], [0, 2]),
        Objects.of([(0.2, 0.2, 0.8, 0.6)], [1]),
    ]
)


def exactly(labels, size=100, shrunk=1.0):
    found = []
    for each in targets(labels, size):
        boxes = each["boxes"].clone()
        boxes[:, 2:] = boxes[:, :2] + (boxes[:, 2:] - boxes[:, :2]) * torch.tensor([shrunk, 1.0])
        found.append({"boxes": boxes, "labels": each["labels"], "scores": torch.full((len(boxes),), 0.9)})
    return found


def test_all_found_is_one():
    assert average_precision(exactly(LABELS), targets(LABELS, 100)) == pytest.approx((1.0, 1.0))


def test_an_overlap_of_seventy_two_hundredths_counts_at_five_of_ten_thresholds():
    strict, loose = average_precision(exactly(LABELS, shrunk=0.72), targets(LABELS, 100))
    assert loose == pytest.approx(1.0)
    assert strict == pytest.approx(0.5)


def test_nothing_found_is_nothing():
    none = [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "scores": torch.zeros(0)}] * 2
    assert average_precision(none, targets(LABELS, 100)) == (0.0, 0.0)


def test_ignored_objects_are_not_demanded():
    crowd = as_labels(
        [Objects.of(each.boxes, each.classes, [number == 1] * len(each)) for number, each in enumerate(LABELS)]
    )
    found = [*exactly(LABELS)[:1], {key: value[:0] for key, value in exactly(LABELS)[1].items()}]
    assert average_precision(found, targets(crowd, 100)) == pytest.approx((1.0, 1.0))
    assert average_precision(found, targets(LABELS, 100))[0] < 0.7


def test_what_is_not_installed_is_said_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics.detection", None)
    with pytest.raises(ConfigError, match=r"pip install 'amc-mobile\[detection\]'") as caught:
        average_precision(exactly(LABELS), targets(LABELS, 100))
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def task():
    torch.manual_seed(0)
    return Detection(find("ssdlite_mobilenet_v3_small").build())


def answers_for(detector, labels):
    """Raw answers that say exactly what the pictures show, at the anchors that cover it best."""
    anchors = detector.anchor_generator(
        detector._blank(1), [torch.zeros(1, *shape) for shape in detector.map_shapes().values()]
    )[0]
    answers = torch.zeros(len(labels), len(anchors), 8)
    answers[..., 0] = 20.0
    from torchvision.ops import box_iou

    for image, each in enumerate(targets(labels, detector.size)):
        for box, label in zip(each["boxes"], each["labels"], strict=True):
            best = int(box_iou(box[None], anchors).argmax())
            answers[image, best, int(label)] = 40.0
            answers[image, best, 4:] = detector.box_coder.encode_single(box[None], anchors[best : best + 1])[0]
    return answers.numpy()


def test_the_judge_scores_raw_answers(task):
    right = answers_for(task.detector, LABELS)
    judge = task.judge(LABELS, right)
    score = judge.outcomes([right[:1], right[1:]]).score()
    assert (score.top1, score.images) == (None, 2)
    assert score.map == pytest.approx(1.0, abs=1e-6)
    assert score.kl == pytest.approx(0.0, abs=1e-9)
    assert score.accuracy("map50") == score.map50
    assert score.accuracy("kl") == score.map
    wrong = right.copy()
    wrong[0, :, :4] = [20.0, 0.0, 0.0, 0.0]  # the first picture's objects are not seen
    worse = judge.outcomes([wrong]).score()
    assert worse.map == pytest.approx(1 / 3, abs=1e-6)
    assert worse.kl > 1.0
    assert task.distance(right, wrong) == pytest.approx(worse.kl)


def test_broken_answers_score_badly(task):
    right = answers_for(task.detector, LABELS)
    broken = np.full_like(right, np.nan)
    score = task.judge(LABELS, right).outcomes([broken]).score()
    assert score.map < 0.1
    assert np.isfinite(score.kl)


def test_tasks_by_name(task):
    assert isinstance(task_of("classification", None), Classification)
    assert isinstance(task_of("detection", find("ssdlite_mobilenet_v3_small").build()), Detection)

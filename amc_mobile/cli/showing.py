"""A few test pictures with the boxes that original and pruned detector find: detections.json, for the report."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from amc_mobile.runs import write_json

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from amc_mobile.cli.session import Session
    from amc_mobile.models.detection import Detection
    from amc_mobile.report.examples import Found

_PICTURES = 4  # the first of the test images: nobody chooses them
_CERTAIN = 0.5


def show_examples(session: Session, original: onnx.ModelProto, pruned: onnx.ModelProto) -> None:
    """Writes detections.json."""
    from PIL import Image

    from amc_mobile.models.evaluation import OnnxEvaluator
    from amc_mobile.report.examples import SCHEMA, Example, Examples

    whole = session.splits.test
    split = replace(whole, indices=whole.indices[:_PICTURES])
    pixels = split.images.pictures.pixels(split.indices, session.preprocessing)
    evaluator = OnnxEvaluator(session.preprocessing.normalised(pixels), split.labels, 1, judge=session.task.judge)
    answers = [_found(session, evaluator.logits(model)) for model in (original, pruned)]
    pictures = []
    for number, picture in enumerate(pixels):
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, "PNG", optimize=True)
        png = base64.b64encode(stream.getvalue()).decode()
        pictures.append(Example(png, answers[0][number], answers[1][number]))
    write_json(session.folder.detections, Examples(SCHEMA, _CERTAIN, tuple(pictures)))


def _found(session: Session, answers: NDArray[np.float32]) -> list[tuple[Found, ...]]:
    """What raw answers say of each picture, as far as it is certain."""
    from amc_mobile.models.detection import detections
    from amc_mobile.report.examples import Found

    detector = cast("Detection", session.task).detector
    names = session.splits.test.images.class_names
    size = detector.size
    found = []
    for each in detections(detector, answers):
        shares = (each["boxes"] / size).tolist()
        rows = zip(shares, each["labels"].tolist(), each["scores"].tolist(), strict=True)
        found.append(
            tuple(
                Found((left, top, right, bottom), names[label - 1] if label <= len(names) else str(label), certainty)
                for (left, top, right, bottom), label, certainty in rows
                if certainty >= _CERTAIN
            )
        )
    return found

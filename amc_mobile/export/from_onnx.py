"""From a user's own ONNX file, whoever wrote it, to the one graph that is profiled, searched, pruned and shipped."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime

from amc_mobile.errors import GraphError, first_line
from amc_mobile.export.constants import drop_unused
from amc_mobile.export.fold import fold_batch_norms
from amc_mobile.graph.prepare import prepare, with_weights

_IR_VERSION = 4  # from this on, weights need not be listed among the inputs


def adopt(model: onnx.ModelProto) -> onnx.ModelProto:
    """The file as a graph of its own kind: one image at a time, constants and batch normalisations folded.

    Names stay as they are. Weights that are listed as inputs are inputs no more. Raises: GraphError if the file cannot
    be understood: several inputs, a free dimension beside the batch, or a damaged graph.
    """
    plain, arrays, _ = prepare(model)
    whole = with_weights(plain, arrays)
    whole.ir_version = max(whole.ir_version, _IR_VERSION)
    fold_batch_norms(whole)
    drop_unused(whole)
    return whole


def difference(one: onnx.ModelProto, other: onnx.ModelProto, images: np.ndarray) -> float:
    """The largest difference between two graphs' logits, relative to the largest logit of `one`.

    `images` is float32 (N, C, H, W), run one by one. Raises: GraphError if ONNX Runtime cannot run one of the graphs.
    """
    expected, answered = answers(one, images), answers(other, images)
    scale = max(float(np.abs(expected).max()), float(np.finfo(np.float32).tiny))
    return float(np.abs(answered - expected).max()) / scale


def answer_shape(model: onnx.ModelProto, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of what the graph answers to one blank image (C, H, W). Raises: GraphError if it does not run."""
    return tuple(answers(model, np.zeros((1, *shape), np.float32)).shape)


def answers(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    """The graph's first output for images (N, C, H, W), run one by one. Raises: GraphError if it does not run."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return np.concatenate([np.asarray(session.run(None, {name: image[None]})[0]) for image in images])
    except Exception as error:  # ONNX Runtime's errors have no common root
        raise GraphError(f"ONNX Runtime cannot run the network ({first_line(error)}); export it again") from error

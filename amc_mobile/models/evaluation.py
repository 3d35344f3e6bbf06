"""How good a network is on some images: exact, deterministic, and as fast as the machine allows.

The runtime that will run the network is also its evaluator. Small batches stay in the processor's cache; every core
runs batches of its own.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import onnxruntime
from scipy.special import log_softmax

from amc_mobile.errors import GraphError
from amc_mobile.graph.batch import with_batch
from amc_mobile.types import Score

_BATCH = 4
_EXTREME = 1e6  # stands for infinite logits, so that a broken network scores badly instead of breaking the search


class OnnxEvaluator:
    """Scores networks on the same decoded images. Two runs give the same bits, whatever the number of threads."""

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        threads: int | None = None,
        reference_logits: np.ndarray | None = None,
    ) -> None:
        """Takes float32 images (N, C, H, W) and int labels (N,).

        Args:
            threads: cores to use; None: all of them.
            reference_logits: the original network's logits (N, classes), to compare with; None: divergence is 0.
        """
        count = len(images)
        if count == 0 or len(labels) != count or (reference_logits is not None and len(reference_logits) != count):
            raise ValueError(f"{count} images, {len(labels)} labels")
        self._batches = _batches(np.ascontiguousarray(images, np.float32))
        self._labels = np.asarray(labels)
        self._threads = threads or os.cpu_count() or 1
        self._reference = None if reference_logits is None else log_softmax(reference_logits.astype(np.float64), axis=1)

    def score(self, model: onnx.ModelProto) -> Score:
        """Top-1 and top-5 accuracy, and the mean KL divergence KL(original || this network).

        Raises: GraphError if ONNX Runtime cannot run the model.
        """
        logits = np.nan_to_num(self.logits(model).astype(np.float64), nan=-_EXTREME, posinf=_EXTREME, neginf=-_EXTREME)
        ranks = _ranks(logits, self._labels)
        return Score(
            top1=float(np.mean(ranks < 1)),
            top5=float(np.mean(ranks < 5)),
            kl=self._divergence(logits),
            images=len(ranks),
        )

    def logits(self, model: onnx.ModelProto) -> np.ndarray:
        """float32 (N, classes), in the order of the images. Raises: GraphError if the model does not run."""
        try:
            return self._run(with_batch(model, _BATCH), self._batches)
        except GraphError:  # a network that takes one image at a time, or one that does not run at all
            return self._run(model, [image[None] for batch in self._batches for image in batch])

    def _run(self, model: onnx.ModelProto, batches: list[np.ndarray]) -> np.ndarray:
        session = _session(model)
        name = session.get_inputs()[0].name

        def run(batch: np.ndarray) -> np.ndarray:
            answer: np.ndarray = session.run(None, {name: batch})[0]
            return answer

        try:
            if self._threads == 1:
                answers = [run(batch) for batch in batches]
            else:
                with ThreadPoolExecutor(self._threads) as pool:
                    answers = list(pool.map(run, batches))
        except Exception as error:  # ONNX Runtime's errors have no common root
            raise GraphError(f"ONNX Runtime cannot run the network: {_first_line(error)}") from error
        if answers[0].ndim != 2 or len(answers[0]) != len(batches[0]):
            raise GraphError(
                f"the network answers {answers[0].shape} for {len(batches[0])} images, not (images, classes)"
            )
        return np.concatenate(answers)[: len(self._labels)]

    def _divergence(self, logits: np.ndarray) -> float:
        if self._reference is None:
            return 0.0
        gap = self._reference - log_softmax(logits, axis=1)
        return float(np.mean(np.sum(np.exp(self._reference) * gap, axis=1)))


def _batches(images: np.ndarray) -> list[np.ndarray]:
    """Views of _BATCH images each; the last one is filled up with its last image."""
    short = -len(images) % _BATCH
    whole = len(images) - len(images) % _BATCH
    batches = [images[start : start + _BATCH] for start in range(0, whole, _BATCH)]
    if short:
        rest = images[whole:]
        batches.append(np.concatenate([rest, np.repeat(rest[-1:], short, axis=0)]))
    return batches


def _ranks(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many classes stand before the right one, (N,): among equal logits the first class wins, as in argmax."""
    right = logits[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(logits.shape[1]) < labels[:, None]
    ranks: np.ndarray = np.sum((logits > right) | ((logits == right) & earlier), axis=1)
    return ranks


def _session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """A session of one thread, which several threads may run at once."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no common root
        raise GraphError(f"ONNX Runtime cannot load the network: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

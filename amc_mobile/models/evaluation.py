"""How good a network is on some images: exact, deterministic, and as fast as the machine allows.

The runtime that will run the network is also its evaluator. Small batches stay in the processor's cache; every core
runs batches of its own.
"""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from typing import Literal, TypeVar

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from amc_mobile.errors import GraphError, first_line
from amc_mobile.graph.batch import with_batch
from amc_mobile.models.outcomes import Judge, Outcomes
from amc_mobile.types import Race, Score

_BATCH_BYTES = 5 * 2**19  # of images that run at once: 4 of 224 x 224. Larger batches do not fit the cache,
_LARGEST_BATCH = 32  # smaller ones do not pay for the calls

Images = NDArray[np.float32]
Places = NDArray[np.int64]
EvaluatorName = Literal["auto", "onnxruntime", "torch"]
T = TypeVar("T")


class BatchEvaluator(ABC):
    """Runs networks on one set of images. What runs them is said by `_answers`."""

    def __init__(
        self,
        images: Images,
        labels: NDArray[np.integer],
        reference_logits: NDArray[np.floating] | None,
        batch: int,
    ) -> None:
        """Takes images (N, C, H, W), labels (N,), the original's logits (N, classes) or None, and the batch size."""
        count = len(images)
        if count == 0 or len(labels) != count or (reference_logits is not None and len(reference_logits) != count):
            raise ValueError(f"{count} images, {len(labels)} labels")
        self._batch = min(batch, count)
        self._judge = Judge(labels, reference_logits)

    def score(self, model: onnx.ModelProto, race: Race | None = None) -> Score:
        """Top-1 and top-5 accuracy, and the mean KL divergence KL(original || this network).

        With a `race` the evaluation stops as soon as it is certain that its reward stays below what is to be beaten;
        `images` then tells how many the score is about. Raises: GraphError if the model does not run.
        """
        score = self.outcomes(model, race).score(race)
        if score is None:
            raise GraphError("the network does not answer all images; export it again")
        return score

    def outcomes(self, model: onnx.ModelProto, race: Race | None = None) -> Outcomes:
        """Image by image, until `race` is decided. Raises: GraphError if the model does not run."""
        return self._run(model, self._judge.order, lambda answers: self._judge.outcomes(answers, race))

    def logits(self, model: onnx.ModelProto) -> NDArray[np.float32]:
        """float32 (N, classes), in the order of the images. Raises: GraphError if the model does not run."""
        in_order = np.arange(len(self._judge.order))
        return self._run(model, in_order, lambda answers: np.concatenate(list(answers)))

    @abstractmethod
    def _answers(self, model: onnx.ModelProto, parts: Sequence[Places]) -> Generator[Images]:
        """Logits of one part of the images after the other. All parts have the same length: the model's batch.

        Raises: GraphError if the model does not run.
        """

    def _run(self, model: onnx.ModelProto, order: Places, take: Callable[[Iterator[Images]], T]) -> T:
        try:
            with closing(self._exactly(with_batch(model, self._batch), order, self._batch)) as answers:
                return take(answers)
        except GraphError:  # a network that takes one image at a time, or one that does not run at all
            with closing(self._exactly(model, order, 1)) as answers:
                return take(answers)

    def _exactly(self, model: onnx.ModelProto, order: Places, batch: int) -> Generator[Images]:
        """Logits of the images in `order`, batch by batch; the last batch is filled up, and what that adds left out."""
        full = np.pad(order, (0, -len(order) % batch), mode="edge").reshape(-1, batch)
        left = len(order)
        with closing(self._answers(model, list(full))) as answers:
            for logits in answers:
                if logits.ndim != 2 or len(logits) != batch:
                    raise GraphError(f"the network answers {logits.shape} for {batch} images, not (images, classes)")
                yield logits[:left]
                left -= batch


class OnnxEvaluator(BatchEvaluator):
    """Scores networks by ONNX Runtime. Two runs give the same bits, whatever the number of threads."""

    def __init__(
        self,
        images: Images,
        labels: NDArray[np.integer],
        threads: int | None = None,
        reference_logits: NDArray[np.floating] | None = None,
    ) -> None:
        """Takes float32 images (N, C, H, W) and int labels (N,).

        Args:
            threads: cores to use; None: all of them.
            reference_logits: the original network's logits (N, classes), to compare with; None: divergence is 0.
        """
        super().__init__(images, labels, reference_logits, _batch_size(images))
        self._images = np.ascontiguousarray(images, np.float32)
        self._threads = threads or os.cpu_count() or 1

    def _answers(self, model: onnx.ModelProto, parts: Sequence[Places]) -> Generator[Images]:
        """Parts ahead are at work already, and given up when nobody asks for them."""
        session, waiting = single_thread_session(model), iter(parts)
        if self._threads == 1:
            for part in waiting:
                yield self._answer(session, part)
            return
        pool = ThreadPoolExecutor(self._threads)
        try:
            ahead = deque(pool.submit(self._answer, session, part) for part in islice(waiting, 2 * self._threads))
            while ahead:
                yield ahead.popleft().result()
                ahead.extend(pool.submit(self._answer, session, part) for part in islice(waiting, 1))
        finally:
            pool.shutdown(cancel_futures=True)

    def _answer(self, session: onnxruntime.InferenceSession, part: Places) -> Images:
        try:
            logits: Images = session.run(None, {session.get_inputs()[0].name: self._images[part]})[0]
        except Exception as error:  # ONNX Runtime's errors have no common root
            raise GraphError(f"ONNX Runtime cannot run the network: {first_line(error)}") from error
        return logits


def open_evaluator(
    images: Images,
    labels: NDArray[np.integer],
    threads: int | None = None,
    reference_logits: NDArray[np.floating] | None = None,
    name: EvaluatorName = "auto",
) -> BatchEvaluator:
    """The evaluator of that name; "auto" is torch on an NVIDIA GPU if there is one, ONNX Runtime otherwise.

    "torch" without a GPU runs on the CPU, slower than ONNX Runtime.
    """
    if name != "onnxruntime":
        import torch

        from amc_mobile.models.torch_evaluation import TorchEvaluator

        device = "cuda" if torch.cuda.is_available() else "cpu"
        if name == "torch" or device == "cuda":
            return TorchEvaluator(images, labels, device, reference_logits)
    return OnnxEvaluator(images, labels, threads, reference_logits)


def _batch_size(images: Images) -> int:
    """How many images run at once, such that activations stay in the cache."""
    image_bytes = 4 * math.prod(images.shape[1:])
    return max(1, min(_BATCH_BYTES // max(image_bytes, 1), _LARGEST_BATCH))


def single_thread_session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """A session of one thread, which several threads may run at once."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no common root
        raise GraphError(f"ONNX Runtime cannot load the network: {first_line(error)}") from error

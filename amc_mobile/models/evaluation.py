"""How good a network is on some images: exact, deterministic, and as fast as the machine allows.

The runtime that will run the network is also its evaluator. Small batches stay in the processor's cache; every core
runs batches of its own.
"""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from amc_mobile.device.machine import free_bytes
from amc_mobile.errors import DataError, GraphError, first_line
from amc_mobile.graph.batch import with_batch
from amc_mobile.models.outcomes import Judge
from amc_mobile.trials import Race
from amc_mobile.types import Score

_BATCH_BYTES = 5 * 2**19  # of images that run at once: 4 of 224 x 224. Larger batches do not fit the cache,
_SHARE_OF_MEMORY = 0.8  # that answers which are kept may take of what is free
_LARGEST_BATCH = 32  # smaller ones do not pay for the calls

Images = NDArray[np.float32]
Places = NDArray[np.int64]
EvaluatorName = Literal["auto", "onnxruntime", "torch"]
T = TypeVar("T")


class Answered(Protocol):
    """What a network answered to each image, as far as images were run."""

    def score(self, race: Race | None = None) -> Score | None:
        """The score, as soon as `race` is decided or all images were run; None if more must be run."""
        ...


class Judges(Protocol):
    """Knows the right answers, and those of the original network."""

    order: Places  # of the images, in which they are shown

    def outcomes(self, answers: Iterable[NDArray[np.floating]], race: Race | None = None) -> Answered:
        """Takes batches of answers in that order, until `race` is decided or all images were shown."""
        ...


JudgeOf = Callable[[NDArray[Any], NDArray[np.floating] | None], Judges]  # (labels, the original's answers) -> judge


def complete(answered: Answered, race: Race | None = None) -> Score:
    """The score of an evaluation that has ended. Raises: GraphError if images are missing."""
    score = answered.score(race)
    if score is None:
        raise GraphError("the network does not answer all images; export it again")
    return score


class BatchEvaluator(ABC):
    """Runs networks on one set of images. What runs them is said by `_answers`."""

    def __init__(
        self,
        images: Images,
        labels: NDArray[Any],
        reference: NDArray[np.floating] | None,
        batch: int,
        judge: JudgeOf,
    ) -> None:
        """Takes images (N, C, H, W), labels (N,), the original's answers (N, ...) or None, batch size, and judge."""
        count = len(images)
        if count == 0 or len(labels) != count or (reference is not None and len(reference) != count):
            raise ValueError(f"{count} images, {len(labels)} labels")
        self._batch = min(batch, count)
        self._judge = judge(labels, reference)

    def score(self, model: onnx.ModelProto, race: Race | None = None) -> Score:
        """Accuracy, and the mean divergence from the original.

        With a `race` the evaluation stops as soon as it is certain that its reward stays below what is to be beaten;
        `images` then tells how many the score is about. Raises: GraphError if the model does not run.
        """
        return complete(self.outcomes(model, race), race)

    def outcomes(self, model: onnx.ModelProto, race: Race | None = None) -> Answered:
        """Image by image, until `race` is decided. Raises: GraphError if the model does not run."""
        return self._run(model, self._judge.order, lambda answers: self._judge.outcomes(answers, race))

    def logits(self, model: onnx.ModelProto) -> NDArray[np.float32]:
        """What it answers, float32 (N, ...), in the order of the images.

        Raises: GraphError if it does not run; DataError if the answers do not fit into memory, as those of a Faster
        R-CNN may not, which answers feature maps.
        """
        in_order = np.arange(len(self._judge.order))
        return self._run(model, in_order, lambda answers: _gathered(answers, len(in_order)))

    @abstractmethod
    def _answers(self, model: onnx.ModelProto, parts: Sequence[Places]) -> Generator[Images]:
        """Answers to one part of the images after the other. All parts have the same length: the model's batch.

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
        """Answers to the images in `order`, batch by batch; what fills up the last batch is left out."""
        full = np.pad(order, (0, -len(order) % batch), mode="edge").reshape(-1, batch)
        left = len(order)
        with closing(self._answers(model, list(full))) as answers:
            for logits in answers:
                if logits.ndim < 2 or len(logits) != batch:
                    raise GraphError(f"the network answers {logits.shape} for {batch} images, not (images, ...)")
                yield logits[:left]
                left -= batch


def _gathered(answers: Iterator[Images], images: int) -> Images:
    """All answers in one array. Raises: DataError if there is no memory for it."""
    found, done = np.zeros((0, 1), np.float32), 0
    for answer in answers:
        if not done:
            needed, free = answer[0].nbytes * images, free_bytes()
            if free is not None and needed > _SHARE_OF_MEMORY * free:
                raise DataError(
                    f"the network's answers to {images} images take {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB of "
                    "memory are free; lower data.search_images, or choose a smaller model.image_size"
                )
            found = np.empty((images, *answer.shape[1:]), np.float32)
        found[done : done + len(answer)] = answer
        done += len(answer)
    return found


class OnnxEvaluator(BatchEvaluator):
    """Scores networks by ONNX Runtime. Two runs give the same bits, whatever the number of threads."""

    def __init__(
        self,
        images: Images,
        labels: NDArray[Any],
        threads: int | None = None,
        reference: NDArray[np.floating] | None = None,
        judge: JudgeOf = Judge,
    ) -> None:
        """Takes float32 images (N, C, H, W) and labels (N,).

        Args:
            threads: cores to use; None: all of them.
            reference: the original network's answers (N, ...), to compare with; None: divergence is 0.
            judge: who compares; for classes and logits (N, classes) unless said otherwise.
        """
        super().__init__(images, labels, reference, batch_size(images.shape[1:]), judge)
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
    labels: NDArray[Any],
    threads: int | None = None,
    reference: NDArray[np.floating] | None = None,
    name: EvaluatorName = "auto",
    judge: JudgeOf = Judge,
) -> BatchEvaluator:
    """The evaluator of that name; "auto" is torch on an NVIDIA GPU if there is one, ONNX Runtime otherwise.

    "torch" without a GPU runs on the CPU, slower than ONNX Runtime.
    """
    if name != "onnxruntime":
        import torch

        from amc_mobile.models.torch_evaluation import TorchEvaluator

        device = "cuda" if torch.cuda.is_available() else "cpu"
        if name == "torch" or device == "cuda":
            return TorchEvaluator(images, labels, device, reference, judge=judge)
    return OnnxEvaluator(images, labels, threads, reference, judge)


def batch_size(shape: Sequence[int]) -> int:
    """How many images of this shape, (C, H, W), run at once, such that activations stay in the cache."""
    image_bytes = 4 * math.prod(shape)
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

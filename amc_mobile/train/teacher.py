"""The network that a training imitates: what it answers for the very images of a batch, as cheaply as it can be had."""

from __future__ import annotations

import copy
import hashlib
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Protocol

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from amc_mobile.errors import GraphError
from amc_mobile.graph.batch import with_batch
from amc_mobile.models.evaluation import single_thread_session
from amc_mobile.train.resuming import state_digest

_CHUNK = 16  # images that a thread runs at once: their activations stay in the cache


class Teacher(Protocol):
    """Something that answers logits."""

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (N, classes) of images (N, C, H, W), on the images' device, without a gradient."""
        ...

    def identity(self) -> str:
        """A digest of its weights."""
        ...


class ModuleTeacher:
    """A copy of a module in eval mode. It goes where the images are."""

    def __init__(self, module: nn.Module) -> None:
        self._module = copy.deepcopy(module).eval()

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """See Teacher."""
        self._module.to(images.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        with torch.inference_mode():
            logits: torch.Tensor = self._module(images)
        return logits

    def identity(self) -> str:
        """See Teacher."""
        return state_digest(self._module)


class OnnxTeacher:
    """An exported network, run by ONNX Runtime on the CPU: the same logits a third sooner than by torch."""

    def __init__(self, model: onnx.ModelProto, threads: int) -> None:
        """Raises: GraphError if the network cannot take several images at once."""
        self._model = model.SerializeToString()
        self._threads = threads
        _session(self._model, _CHUNK)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """See Teacher."""
        array = np.ascontiguousarray(images.detach().float().cpu().numpy())
        parts = [array[start : start + _CHUNK] for start in range(0, len(array), _CHUNK)]
        with ThreadPoolExecutor(self._threads) as pool:
            logits = np.concatenate(list(pool.map(self._answer, parts)))
        return torch.from_numpy(logits).to(images.device)

    def identity(self) -> str:
        """See Teacher."""
        return hashlib.sha256(self._model).hexdigest()

    def _answer(self, images: np.ndarray) -> np.ndarray:
        session = _session(self._model, len(images))
        logits: np.ndarray = session.run(None, {session.get_inputs()[0].name: images})[0]
        return logits


@lru_cache(maxsize=4)
def _session(model: bytes, images: int) -> onnxruntime.InferenceSession:
    return single_thread_session(with_batch(onnx.load_from_string(model), images))


def fast_teacher(module: nn.Module, model: onnx.ModelProto, threads: int) -> Teacher:
    """The module as a teacher: on a CPU by its exported graph, if that takes batches, else as it is."""
    if torch.cuda.is_available():
        return ModuleTeacher(module)
    try:
        return OnnxTeacher(model, threads)
    except GraphError:
        return ModuleTeacher(module)

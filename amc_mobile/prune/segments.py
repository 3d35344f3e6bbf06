"""A graph cut into segments at single tensors, so that layer after layer can be run without all that stands before."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper

from amc_mobile.errors import GraphError
from amc_mobile.graph.batch import with_batch
from amc_mobile.graph.prepare import activations
from amc_mobile.models.evaluation import batch_size, single_thread_session

_LARGEST_BYTES = 256 * 2**20  # of a tensor that is kept for all images: a larger one is made again from the last cut
_LAYERS = ("Conv", "Gemm", "MatMul")

Tensor = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Segment:
    """Nodes first..last - 1 of a graph: all that leads from the tensor `entry` to the tensor `exit`."""

    entry: str
    exit: str
    first: int
    last: int


def segments(model: onnx.ModelProto, images: int) -> list[Segment]:
    """The whole network in segments that hold at least one layer each, for so many images.

    `model` records the shapes of its tensors, for one image.
    """
    sizes = {
        item.name: 4 * math.prod(dim.dim_value for dim in item.type.tensor_type.shape.dim)
        for item in model.graph.value_info
    }
    answer, end = model.graph.output[0].name, len(model.graph.node)
    last_use = {name: index for index, node in enumerate(model.graph.node) for name in node.input}
    last_use[answer] = end  # though other outputs may be made after it
    entry, first, found = activations(model.graph)[0].name, 0, []
    alive, layers = {entry}, 0
    for index, node in enumerate(model.graph.node):
        layers += node.op_type in _LAYERS
        alive = {name for name in alive | set(node.output) if last_use.get(name, -1) > index}
        name = next(iter(alive), "")
        if len(alive) == 1 and name != answer and layers and sizes.get(name, _LARGEST_BYTES) * images < _LARGEST_BYTES:
            found.append(Segment(entry, name, first, index + 1))
            entry, first, layers = name, index + 1, 0
    return [*found, Segment(entry, answer, first, end)]


def everything(tensor: Tensor, first: int, count: int) -> Tensor:
    """The whole tensor."""
    return tensor


@dataclass(frozen=True, slots=True)
class Take:
    """Something of a tensor: `of(tensor, first, count)` of every batch, which holds images first..first + count - 1.

    It is called from several threads at once.
    """

    tensor: str
    of: Callable[[Tensor, int, int], Tensor] = everything


class Runner:
    """Runs segments of one network on images. `arrays`, the network's initialisers, may be replaced between runs."""

    def __init__(self, model: onnx.ModelProto, threads: int | None = None) -> None:
        """Takes a network for one image."""
        shape = [dim.dim_value for dim in activations(model.graph)[0].type.tensor_type.shape.dim[1:]]
        try:
            self._batch = batch_size(shape)
            self._model = with_batch(model, self._batch)
        except GraphError:  # a network that runs one image at a time
            self._model, self._batch = model, 1
        self.arrays: dict[str, NDArray[Any]] = {
            item.name: numpy_helper.to_array(item) for item in self._model.graph.initializer
        }
        self._threads = threads or os.cpu_count() or 1

    def run(self, segment: Segment, data: Tensor, images: int, takes: Sequence[Take]) -> list[Tensor]:
        """What is taken from the segment's tensors, images along axis 0. `data` is its entry, for so many images."""
        wanted = sorted({take.tensor for take in takes if take.tensor != segment.entry})
        session = self._session(segment, wanted) if wanted else None
        rows = len(data) // images

        def taken(start: int) -> list[Tensor]:
            count = min(self._batch, images - start)
            batch = data[start * rows : (start + count) * rows]
            tensors = {segment.entry: batch}
            if session is not None:
                if count < self._batch:
                    missing = np.zeros(((self._batch - count) * rows, *data.shape[1:]), data.dtype)
                    batch = np.concatenate([batch, missing])
                for name, tensor in zip(wanted, session.run(wanted, {segment.entry: batch}), strict=True):
                    tensors[name] = tensor[: len(tensor) // self._batch * count]
            return [take.of(tensors[take.tensor], start, count) for take in takes]

        with ThreadPoolExecutor(self._threads) as pool:
            batches = list(pool.map(taken, range(0, images, self._batch)))
        return [np.concatenate(parts) for parts in zip(*batches, strict=True)]

    def _session(self, segment: Segment, wanted: Sequence[str]) -> onnxruntime.InferenceSession:
        nodes = _needed(self._model.graph.node[segment.first : segment.last], set(wanted))
        used = dict.fromkeys(name for node in nodes for name in node.input if name in self.arrays)
        graph = onnx.helper.make_graph(
            nodes,
            "segment",
            [onnx.helper.make_tensor_value_info(segment.entry, onnx.TensorProto.FLOAT, None)],
            [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in wanted],
            [numpy_helper.from_array(self.arrays[name], name) for name in used],
        )
        versions = self._model.opset_import
        model = onnx.helper.make_model(graph, opset_imports=versions, ir_version=self._model.ir_version)
        return single_thread_session(model)  # every core runs batches of its own


def _needed(nodes: Sequence[onnx.NodeProto], wanted: set[str]) -> list[onnx.NodeProto]:
    """The nodes that the wanted tensors follow from, in order."""
    kept = []
    for node in reversed(nodes):
        if wanted & set(node.output):
            kept.append(node)
            wanted = wanted | set(node.input)
    return kept[::-1]

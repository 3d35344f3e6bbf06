"""Calibration: runs the original network once and keeps the second moments of every layer that can lose inputs.

The moments are those of the original network, whatever is pruned later: one pass serves a whole search.
"""

from __future__ import annotations

import io
import json
import math
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from amc_mobile.device.protocol import Progress
from amc_mobile.errors import DataError, GraphError, RunFolderError
from amc_mobile.graph.batch import with_batch
from amc_mobile.graph.traced import TracedGraph
from amc_mobile.prune.layout import Problem, by_weight, problems
from amc_mobile.prune.moments import Accumulator, LayerGram
from amc_mobile.prune.patches import Window, conv_rows, linear_rows
from amc_mobile.runs import write_bytes
from amc_mobile.types import Layer

SCHEMA = 1
_BATCH = 4  # images at a time: every layer's input is in memory at once


class Grams:
    """A LayerGram for every problem of a network (layout.py), by the problem's name: nearly always that of a weight."""

    def __init__(self, layers: Mapping[str, LayerGram], images: int) -> None:
        self.layers = dict(layers)
        self.images = images

    def save(self, path: Path) -> None:
        """Writes one .npz file, all or nothing: float64 upper triangles or float32 rows, whichever is smaller.

        With 3000 rows MobileNet-V2 takes 30 MB and VGG-16 0.4 GB. Raises: RunFolderError.
        """
        names = list(self.layers)
        rows = [self.layers[name].rows for name in names]
        header = json.dumps({"schema": SCHEMA, "images": self.images, "weights": names, "rows": rows})
        arrays: dict[str, NDArray[np.generic]] = {"header": np.frombuffer(header.encode(), np.uint8)}
        for index, layer in enumerate(self.layers.values()):
            if layer.matrix is not None:
                arrays[f"gram{index}"] = layer.matrix[np.triu_indices(len(layer.matrix))]
            else:
                arrays[f"rows{index}"] = layer.kept_samples()
        stream = io.BytesIO()
        np.savez(stream, allow_pickle=False, **arrays)
        write_bytes(path, stream.getvalue())

    @classmethod
    def load(cls, path: Path) -> Grams:
        """Reads what `save` wrote, bit for bit. Raises: RunFolderError if the file is missing or damaged."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                header = json.loads(bytes(stored["header"]))
                if header["schema"] != SCHEMA:
                    raise ValueError(f"schema {header['schema']}, expected {SCHEMA}")
                named = enumerate(zip(header["weights"], header["rows"], strict=True))
                layers = {name: _stored_layer(stored, index, rows) for index, (name, rows) in named}
                return cls(layers, header["images"])
        except OSError as error:
            raise RunFolderError(f"cannot read {path}: {error.strerror or error}") from error
        except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise RunFolderError(f"{path} is damaged ({error}); delete it and run the stage again") from error


def collect(
    traced: TracedGraph,
    images: NDArray[np.float32],
    points_per_image: int,
    *,
    seed: int,
    threads: int | None = None,
    progress: Progress | None = None,
    every: bool = False,
) -> Grams:
    """Samples the inputs of every layer that can lose input channels, on preprocessed images (N, C, H, W).

    Each layer draws its own output positions from `seed`: the same images and seed give the same result, bit for bit.

    Args:
        points_per_image: sampled output positions of a layer per image (He et al. 2018: 10); a smaller map gives all.
        threads: cores for the network; all if None.
        every: also of layers whose inputs all stay, which can lose single weights.

    Raises: DataError if there is no image, the images do not fit the network, or it answers no finite numbers.
    """
    if len(images) == 0 or images.shape[1:] != tuple(traced.network.input_shape)[-3:]:
        raise DataError(
            f"calibration images are {tuple(images.shape)}, but {traced.network.name} reads (N, "
            f"{', '.join(map(str, traced.network.input_shape[-3:]))}); give at least one image of that size"
        )
    sites = _sites(traced, points_per_image, seed, len(images), every)
    if not sites:
        return Grams({}, len(images))
    session = tensor_session(traced.model, [layer.input for site in sites for layer in site.layers], threads)
    names, entry = [item.name for item in session.get_outputs()], session.get_inputs()[0]
    batch = entry.shape[0]
    for start in range(0, len(images), batch):
        part = images[start : start + batch]
        padded = np.zeros((batch, *images.shape[1:]), np.float32)
        padded[: len(part)] = part
        tensors = dict(zip(names, session.run(names, {entry.name: padded}), strict=True))
        for site in sites:
            site.add(tensors, batch, len(part))
        if progress is not None:
            progress(start + len(part), len(images), "calibration images")
    return Grams({name: gram for site in sites for name, gram in site.finish().items()}, len(images))


class _Site:
    """The layers that share one weight (nearly always one layer), and what has been sampled of their inputs.

    Every part of a grouped convolution adds up its own columns of the same rows.
    """

    def __init__(
        self, parts: tuple[Problem, ...], windows: list[Window], points: int, images: int, seed: list[int]
    ) -> None:
        self.layers = parts[0].layers
        self._parts = parts
        self._windows = windows
        self._points = points
        self._images = images
        self._generator = np.random.default_rng(seed)
        self._accumulators: list[Accumulator] = []

    def add(self, tensors: Mapping[str, NDArray[np.float32]], batch: int, count: int) -> None:
        """Samples the first `count` images of a batch from the layers' input tensors."""
        rows = []
        for layer, window in zip(self.layers, self._windows, strict=True):
            tensor = tensors[layer.input]
            if layer.kind == "linear":  # (batch, K), (batch, tokens, K), or (tokens, 1, K) where the batch is 1
                tensor = tensor.reshape(batch, -1, tensor.shape[-1])
            available = tensor.shape[1] if layer.kind == "linear" else math.prod(layer.out_hw)
            positions = draw(self._generator, count, available, self._points)
            rows.append(input_rows(layer, window, tensor[:count], positions))
        columns = rows[0].shape[1] // len(self._parts)
        if not self._accumulators:
            total = sum(map(len, rows)) // count * self._images
            self._accumulators = [Accumulator(columns, total) for _ in self._parts]
        for item in rows:
            for part, accumulator in enumerate(self._accumulators):
                accumulator.add(item[:, part * columns : (part + 1) * columns])

    def finish(self) -> dict[str, LayerGram]:
        """The moments of everything sampled, by the problem's name. Raises: DataError if they are not finite."""
        grams = [accumulator.finish() for accumulator in self._accumulators]
        if not all(np.isfinite(gram.mean_squares()).all() for gram in grams):
            raise DataError(
                f"the input of {self.layers[0].name} is not finite on the calibration images; check weights and images"
            )
        return {part.name: gram for part, gram in zip(self._parts, grams, strict=True)}


def input_rows(
    layer: Layer, window: Window, tensor: NDArray[np.float32], positions: NDArray[np.int64]
) -> NDArray[np.float32]:
    """What a layer reads at some output positions (N, P), as (N * P, K). tensor: (N, C, H, W) or (N, tokens, K)."""
    if layer.kind == "linear":
        return linear_rows(tensor, positions)
    return conv_rows(tensor, window, layer.out_hw[1], positions)


def draw(generator: np.random.Generator, images: int, available: int, points: int) -> NDArray[np.int64]:
    """Different positions for each image, (images, P): `points` of the `available` ones, or all."""
    count = min(points, available)
    return np.stack([generator.choice(available, count, replace=False) for _ in range(images)])


def _sites(traced: TracedGraph, points: int, seed: int, images: int, every: bool) -> list[_Site]:
    nodes = {name: node for node in traced.model.graph.node for name in node.output}
    sites = []
    for index, parts in enumerate(by_weight(problems(traced, every=every)).values()):
        windows = [window_of(layer, nodes[layer.output]) for layer in parts[0].layers]
        sites.append(_Site(parts, windows, points, images, [seed, index]))
    return sites


def window_of(layer: Layer, node: onnx.NodeProto) -> Window:
    """What the layer's node sees from an output position."""
    dilations = next((tuple(item.ints) for item in node.attribute if item.name == "dilations"), (1, 1))
    return Window(layer.kernel, layer.stride, (layer.padding[0], layer.padding[1]), (dilations[0], dilations[-1]))


def tensor_session(model: onnx.ModelProto, tensors: list[str], threads: int | None) -> onnxruntime.InferenceSession:
    """The network, answering the named tensors instead of its logits, for several images at once if it can."""
    shown = onnx.ModelProto()
    try:
        shown = with_batch(model, _BATCH)
    except GraphError:  # a network that runs one image at a time
        shown.CopyFrom(model)
    del shown.graph.output[:]
    shown.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in dict.fromkeys(tensors)
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or os.cpu_count() or 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # others may need the cores
    return onnxruntime.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _stored_layer(stored: Mapping[str, NDArray[np.generic]], index: int, rows: int) -> LayerGram:
    """One layer of a file. Raises: ValueError or KeyError if it does not fit together."""
    if f"rows{index}" in stored:
        return LayerGram(rows, None, np.asarray(stored[f"rows{index}"], np.float32).reshape(rows, -1))
    triangle = np.asarray(stored[f"gram{index}"], np.float64)
    side = math.isqrt(2 * len(triangle))
    upper = np.zeros((side, side))
    upper[np.triu_indices(side)] = triangle
    if not np.isfinite(triangle).all():
        raise ValueError(f"the moments of layer {index} are not finite")
    return LayerGram(rows, upper + np.triu(upper, 1).T, None)

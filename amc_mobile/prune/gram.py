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
from amc_mobile.prune.layout import refittable
from amc_mobile.prune.moments import Accumulator, LayerGram
from amc_mobile.prune.patches import Window, conv_rows, linear_rows
from amc_mobile.runs import write_bytes
from amc_mobile.types import Layer

SCHEMA = 1
_BATCH = 4  # images at a time: every layer's input is in memory at once


class Grams:
    """A LayerGram for every layer that can lose input channels, by the name of the layer's weight."""

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
) -> Grams:
    """Samples the inputs of every layer that can lose input channels, on preprocessed images (N, C, H, W).

    Each layer draws its own output positions from `seed`: the same images and seed give the same result, bit for bit.

    Args:
        points_per_image: sampled output positions of a layer per image (He et al. 2018: 10); a smaller map gives all.
        threads: cores for the network; all if None.

    Raises: DataError if there is no image, the images do not fit the network, or it answers no finite numbers.
    """
    if len(images) == 0 or images.shape[1:] != tuple(traced.network.input_shape)[-3:]:
        raise DataError(
            f"calibration images are {tuple(images.shape)}, but {traced.network.name} reads (N, "
            f"{', '.join(map(str, traced.network.input_shape[-3:]))}); give at least one image of that size"
        )
    sites = _sites(traced, points_per_image, seed, len(images))
    if not sites:
        return Grams({}, len(images))
    session = _session(traced, [layer.input for site in sites for layer in site.layers], threads)
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
    return Grams({site.weight: site.finish() for site in sites}, len(images))


class _Site:
    """The layers that share one weight (nearly always one layer), and what has been sampled of their inputs."""

    def __init__(self, layers: list[Layer], windows: list[Window], points: int, images: int, seed: list[int]) -> None:
        self.layers = layers
        self.weight = layers[0].weight
        self._windows = windows
        self._points = points
        self._images = images
        self._generator = np.random.default_rng(seed)
        self._accumulator: Accumulator | None = None

    def add(self, tensors: Mapping[str, NDArray[np.float32]], batch: int, count: int) -> None:
        """Samples the first `count` images of a batch from the layers' input tensors."""
        rows = []
        for layer, window in zip(self.layers, self._windows, strict=True):
            tensor = tensors[layer.input]
            if layer.kind == "linear":  # (batch, K), (batch, tokens, K), or (tokens, 1, K) where the batch is 1
                tensor = tensor.reshape(batch, -1, tensor.shape[-1])
            rows.append(self._sample(layer, window, tensor[:count]))
        if self._accumulator is None:
            self._accumulator = Accumulator(rows[0].shape[1], sum(map(len, rows)) // count * self._images)
        for item in rows:
            self._accumulator.add(item)

    def finish(self) -> LayerGram:
        """The moments of everything sampled. Raises: DataError if they are not finite."""
        if self._accumulator is None:
            raise ValueError(f"no image has reached {self.weight}")
        gram = self._accumulator.finish()
        if not np.isfinite(gram.mean_squares()).all():
            raise DataError(
                f"the input of {self.layers[0].name} is not finite on the calibration images; check weights and images"
            )
        return gram

    def _sample(self, layer: Layer, window: Window, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        if layer.kind == "linear":
            return linear_rows(tensor, self._positions(len(tensor), tensor.shape[1]))
        height, width = layer.out_hw
        return conv_rows(tensor, window, width, self._positions(len(tensor), height * width))

    def _positions(self, images: int, available: int) -> NDArray[np.int64]:
        count = min(self._points, available)
        return np.stack([self._generator.choice(available, count, replace=False) for _ in range(images)])


def _sites(traced: TracedGraph, points: int, seed: int, images: int) -> list[_Site]:
    nodes = {name: node for node in traced.model.graph.node for name in node.output}
    return [
        _Site(layers, [_window(layer, nodes[layer.output]) for layer in layers], points, images, [seed, index])
        for index, layers in enumerate(refittable(traced).values())
    ]


def _window(layer: Layer, node: onnx.NodeProto) -> Window:
    dilations = next((tuple(item.ints) for item in node.attribute if item.name == "dilations"), (1, 1))
    return Window(layer.kernel, layer.stride, (layer.padding[0], layer.padding[1]), (dilations[0], dilations[-1]))


def _session(traced: TracedGraph, tensors: list[str], threads: int | None) -> onnxruntime.InferenceSession:
    """The original network, answering the named tensors instead of its logits."""
    try:
        model = with_batch(traced.model, _BATCH)
    except GraphError:  # a network that runs one image at a time
        model = with_batch(traced.model, 1)
    del model.graph.output[:]
    model.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in dict.fromkeys(tensors)
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or os.cpu_count() or 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


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

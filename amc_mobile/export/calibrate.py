"""What int8 must know of a float network before it is quantised: how its activations are spread, on some images.

Three ways to choose a tensor's range: everything that occurred ("minmax"), all but the outermost values ("percentile"),
or the range in which rounding and clipping together cost least squared error ("mse"). ONNX Runtime's own calibrators
for the latter two hold every activation of every image in memory; here a sample of each is enough. "percentile" and
"mse" are for activations with rare outliers; `benchmarks/int8_accuracy.py` compares all three.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from amc_mobile.device.protocol import Progress
from amc_mobile.errors import GraphError, first_line
from amc_mobile.types import RangeMethod

Range = tuple[float, float]  # least and largest value; zero is always within
Ranges = Mapping[str, Range]  # by tensor
Floats = NDArray[np.float32]

_SAMPLE = 200_000  # values of each tensor, over all images
_MOST_PER_IMAGE = 2_000
_OUTERMOST = 1e-4  # share of the values that "percentile" leaves out at either end
_NARROWEST, _STEPS = 0.3, 36  # "mse": from this share of the whole range up to all of it
_LEVELS = 255


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """The range of every float tensor, and its mean in every channel (axis 1), where it has channels."""

    ranges: Ranges
    means: Mapping[str, NDArray[np.float64]]


def calibrate(
    model: onnx.ModelProto,
    images: Floats,
    method: RangeMethod = "minmax",
    threads: int = 1,
    progress: Progress | None = None,
) -> Calibration:
    """Runs images (N, C, H, W) through the float graph, one at a time. The same images give the same answer.

    Raises: GraphError if the model does not run.
    """
    spreads: dict[str, _Spread] = {}
    most = min(_MOST_PER_IMAGE, max(1, _SAMPLE // len(images))) if method != "minmax" else 0
    rng = np.random.default_rng(0)
    for done, tensors in enumerate(_activations(model, images, threads)):
        for name, values in tensors:
            spreads.setdefault(name, _Spread()).add(values, most, rng)
        if progress is not None:
            progress(done + 1, len(images), "int8: ranges")
    return Calibration(
        {name: spread.range(method) for name, spread in spreads.items()},
        {name: spread.sums / len(images) for name, spread in spreads.items() if spread.sums is not None},
    )


def activation_ranges(model: onnx.ModelProto, images: Floats, threads: int = 1) -> dict[str, Range]:
    """Everything that occurred in each float tensor of the graph. Raises: GraphError."""
    return dict(calibrate(model, images, threads=threads).ranges)


class _Spread:
    """What was seen of one tensor so far."""

    def __init__(self) -> None:
        self.low = self.high = 0.0
        self.sums: NDArray[np.float64] | None = None
        self._samples: list[Floats] = []

    def add(self, values: Floats, most: int, rng: np.random.Generator) -> None:
        """Takes the tensor of one more image, `most` values of which are remembered."""
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        if values.ndim > 1:
            means = values.mean(axis=(0, *range(2, values.ndim)), dtype=np.float64)
            self.sums = means if self.sums is None else self.sums + means
        flat = values.ravel()
        self._samples.append(flat if len(flat) <= most else flat[rng.integers(0, len(flat), most)])

    def range(self, method: RangeMethod) -> Range:
        """The range by that method."""
        if method == "minmax" or self.low == self.high:
            return self.low, self.high
        samples = np.concatenate(self._samples)
        if method == "percentile":
            low, high = np.quantile(samples, (_OUTERMOST, 1.0 - _OUTERMOST))
            return min(float(low), 0.0), max(float(high), 0.0)
        shares = np.linspace(_NARROWEST, 1.0, _STEPS)
        share = min(shares, key=lambda share: _squared_error(samples, self.low * share, self.high * share))
        return self.low * float(share), self.high * float(share)


def _squared_error(samples: Floats, low: float, high: float) -> float:
    """What rounding to uint8 within the range, and clipping to it, cost on average."""
    scale = (high - low) / _LEVELS
    zero = round(-low / scale)
    levels = np.clip(np.round(samples / np.float32(scale)), -zero, _LEVELS - zero)
    return float(np.mean((levels * np.float32(scale) - samples) ** 2))


def _activations(model: onnx.ModelProto, images: Floats, threads: int) -> Iterator[list[tuple[str, Floats]]]:
    """Image by image the network's float tensors, the image itself first."""
    everything = onnx.ModelProto()
    everything.CopyFrom(model)
    graph = everything.graph
    told = {item.name for item in graph.output}
    inner = [name for node in graph.node for name in node.output if name and name not in told]
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, threads
    try:
        session = onnxruntime.InferenceSession(
            everything.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        feed, names = session.get_inputs()[0].name, [item.name for item in session.get_outputs()]
        for image in images:
            found = [(feed, image[None]), *zip(names, session.run(names, {feed: image[None]}), strict=True)]
            yield [(name, values) for name, values in found if values.dtype == np.float32 and values.size]
    except Exception as error:  # ONNX Runtime's errors have no common root
        raise GraphError(f"ONNX Runtime cannot run this network to quantise it: {first_line(error)}") from error

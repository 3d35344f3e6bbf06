"""How a layer's time depends on its widths, and how a network's time on its layers'.

Time of a layer: t = a + b·ci' + c·co' + d·ci'·co' with a, b, c, d >= 0 and channels rounded up to blocks of `block`:
runtimes work in blocks, so time is a staircase. Layers with one width (depthwise) and the nodes between layers have
t = a + b·c'. Where a runtime needs at least a block of input channels for its fast path (ONNX Runtime's NCHWc
convolutions), a layer with fewer of them follows a law of its own: `thin` adds it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from amc_mobile.types import LayerKind

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_REWEIGHTINGS = 8  # of the robust calibration; it has settled by then
_TINY = 0.002  # a row below this share of the network's time everywhere is taken as its mean


@dataclass(frozen=True, slots=True)
class Form:
    """The form of all laws of one table: the block, and whether layers thinner than a block have their own law."""

    block: int
    thin: bool = False


FORMS = (Form(1), Form(4), Form(8), Form(16), Form(32), Form(8, thin=True), Form(16, thin=True))


@dataclass(frozen=True, slots=True)
class RowShape:
    """What is known of a row before it is measured: full widths, and which of them pruning can change."""

    kind: LayerKind
    in_channels: int
    out_channels: int
    in_varies: bool
    out_varies: bool

    @property
    def one_width(self) -> bool:
        """Whether the row depends on a single number of channels, its output's."""
        return self.kind in ("depthwise", "other")


@dataclass(frozen=True, slots=True)
class RowLaw:
    """A fitted row: time in µs as a function of its widths, before the network's calibration."""

    shape: RowShape
    form: Form
    coefficients: tuple[float, ...]

    def times_us(self, in_channels: Ints, out_channels: Ints) -> Floats:
        """Times (n,) at n pairs of widths; never negative."""
        return self.combine(features(self.shape, self.form, in_channels, out_channels))

    def combine(self, columns: Floats) -> Floats:
        """Times (n,) from the row's features (n, p)."""
        if len(self.coefficients) == 1:
            return np.full(len(columns), self.coefficients[0])
        times: Floats = np.maximum(columns @ np.array(self.coefficients), 0.0)
        return times


@dataclass(frozen=True, slots=True)
class Calibration:
    """From the sum of the rows to the clock: constant_us + scale * sum."""

    constant_us: float
    scale: float

    def __call__(self, sums_us: Any) -> Any:
        """The clock's times for sums of rows."""
        return self.constant_us + self.scale * sums_us


def features(shape: RowShape, form: Form, in_channels: Ints, out_channels: Ints) -> Floats:
    """The columns (n, p) whose non-negative combination is the row's time; widths relative to the full ones."""
    ones = np.ones(len(in_channels))
    outs = _blocks(out_channels, form.block) / _blocks(np.int64(shape.out_channels), form.block)
    ins = _blocks(in_channels, form.block) / _blocks(np.int64(shape.in_channels), form.block)
    if shape.one_width:
        columns = [ones, outs] if shape.out_varies else [ones]
        narrow, size = out_channels < form.block, out_channels / shape.out_channels
        has_thin_law = shape.kind == "other" and shape.out_varies
    else:
        columns = [ones]
        columns += [ins] if shape.in_varies else []
        columns += [outs] if shape.out_varies else []
        columns += [ins * outs] if shape.in_varies and shape.out_varies else []
        narrow, size = in_channels < form.block, in_channels / shape.in_channels * outs
        has_thin_law = shape.kind == "conv" and shape.in_varies
    if form.thin and has_thin_law and shape.in_channels >= form.block:
        columns += [narrow * outs, -(narrow * outs), narrow * size]
    return np.stack(columns, axis=1)


def fit_row(shape: RowShape, form: Form, columns: Floats, times_us: Floats, network_us: Floats) -> RowLaw:
    """The law with the least squared error, each network's error relative to its whole time.

    `columns` (n, p) are the row's features in the n networks measured, `network_us` (n,) their end-to-end times.
    """
    if columns.shape[1] == 1 or times_us.max() < _TINY * network_us.min():
        weights = network_us**-2.0
        return RowLaw(shape, form, (float(weights @ times_us / weights.sum()),))
    coefficients, _residual = nnls(columns / network_us[:, None], times_us / network_us)
    return RowLaw(shape, form, tuple(coefficients.tolist()))


def calibrate(sums_us: Floats, clock_us: Floats) -> Calibration:
    """Scale and constant that bring sums (n,) nearest to the clock (n,), in relative error and robustly.

    Huber's weights: networks beyond 1.345 deviations count less, so that one disturbed measurement does not tilt the
    line. A sum that does not vary gets a scale only.
    """
    if np.ptp(sums_us) <= 1e-9 * max(float(sums_us.max()), 1e-9):
        return Calibration(0.0, float(np.median(clock_us / np.maximum(sums_us, 1e-9))))
    weights = clock_us**-2.0  # squared relative errors
    for _ in range(_REWEIGHTINGS):
        constant, scale = _weighted_line(sums_us, clock_us, weights)
        residuals = np.abs((constant + scale * sums_us) / clock_us - 1.0)
        limit = 1.345 * max(1.4826 * float(np.median(residuals)), 1e-4)
        if residuals.max() <= limit:
            break
        weights = clock_us**-2.0 * np.minimum(1.0, limit / np.maximum(residuals, 1e-12))
    if scale <= 0.0:  # nothing but noise: the mean is the best that can be said, and it is monotone
        return Calibration(float(np.median(clock_us)), 0.0)
    return Calibration(constant, scale)


def _weighted_line(x: Floats, y: Floats, weights: Floats) -> tuple[float, float]:
    """Intercept and slope of the weighted least-squares line."""
    total = weights.sum()
    x_mean, y_mean = float(weights @ x / total), float(weights @ y / total)
    slope = float(weights @ ((x - x_mean) * (y - y_mean)) / (weights @ (x - x_mean) ** 2))
    return y_mean - slope * x_mean, slope


def _blocks(channels: Any, block: int) -> Any:
    """Channels rounded up to whole blocks, as a float."""
    return -(-channels // block) * float(block)

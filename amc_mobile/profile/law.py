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
        if len(self.coefficients) == 1:
            return np.full(len(in_channels), self.coefficients[0])
        columns = features(self.shape, self.form, in_channels, out_channels)
        times: Floats = np.maximum(columns @ np.asarray(self.coefficients), 0.0)
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
        return RowLaw(shape, form, (float(np.average(times_us, weights=1.0 / network_us**2)),))
    coefficients, _residual = nnls(columns / network_us[:, None], times_us / network_us)
    return RowLaw(shape, form, tuple(coefficients.tolist()))


def calibrate(sums_us: Floats, clock_us: Floats) -> Calibration:
    """Scale and constant that bring sums (n,) nearest to the clock (n,), in relative error and robustly.

    Huber's weights: networks beyond 1.345 deviations count less, so that one disturbed measurement does not tilt the
    line. A sum that does not vary gets a scale only.
    """
    columns = np.stack([np.ones_like(sums_us), sums_us], axis=1) / clock_us[:, None]
    if np.ptp(sums_us) <= 1e-9 * max(float(sums_us.max()), 1e-9):
        return Calibration(0.0, float(np.median(clock_us / np.maximum(sums_us, 1e-9))))
    weights = np.ones_like(clock_us)
    for _ in range(12):
        constant, scale = np.linalg.lstsq(columns * weights[:, None], weights, rcond=None)[0]
        residuals = np.abs(columns @ np.array([constant, scale]) - 1.0)
        limit = 1.345 * max(1.4826 * float(np.median(residuals)), 1e-4)
        weights = np.sqrt(np.minimum(1.0, limit / np.maximum(residuals, 1e-12)))
    if scale <= 0.0:  # nothing but noise: the mean is the best that can be said, and it is monotone
        return Calibration(float(np.median(clock_us)), 0.0)
    return Calibration(float(constant), float(scale))


def _blocks(channels: Any, block: int) -> Any:
    """Channels rounded up to whole blocks, as a float."""
    return -(-channels // block) * float(block)

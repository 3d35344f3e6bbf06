"""How a layer's time depends on its widths, and how a network's time on its layers'.

Time of a layer: t = a + b·ci' + c·co' + d·ci'·co' with a, b, c, d >= 0 and channels rounded up to blocks: runtimes work
in blocks, so time is a staircase. Layers with one width (depthwise) and the nodes between layers have t = a + b·c'.

Two things are added where they predict better. `sets`: kernels take several blocks of output channels at once (ONNX
Runtime's NCHWc convolutions four), so that a block that begins a new set costs more. "counted" adds the number of sets
to the terms; "free" lets a broken set of one, two or three blocks cost whatever it does; "whole" is for several
threads, which share the work out by sets and all wait for the one that got none of the broken one. `thin`: below one
block of input channels a runtime leaves its fast path, and the layer follows a law of its own, linear in the channels
that there really are.

Layers of one shape (the blocks of a stage, say) run the same kernels: they share a law, each with a scale of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from amc_mobile.types import LayerKind

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Sets = Literal["ignored", "counted", "free", "whole"]
_REWEIGHTINGS = 8  # of the robust fits; they have settled by then
_LEAST_THIN = 3  # measured times that a law of thin layers needs, and that of the others
_RARELY = 5  # layers so many times wider than one set are hardly ever cut down to one
_LEAST_BROKEN = 2  # measured times of each kind of set that "free" sets need
_SET = 4  # blocks of output channels that a kernel takes at once
_BROKEN: tuple[Sets, ...] = ("free", "whole")
SIMPLER = 1.02  # a form must predict this much better than a simpler one


@dataclass(frozen=True, slots=True)
class Form:
    """The form of a law: the block, what sets of blocks do, whether layers thinner than a block are apart."""

    block: int
    sets: Sets = "ignored"
    thin: bool = False


FORMS = (
    *(Form(block) for block in (1, 4, 8, 16, 32)),
    *(Form(block, "counted") for block in (4, 8, 16)),
    *(Form(block, thin=True) for block in (8, 16)),
    *(Form(block, "free") for block in (4, 8, 16)),
    *(Form(block, "whole") for block in (8, 16)),
    *(Form(block, "counted", thin=True) for block in (8, 16)),
    *(Form(block, sets, thin=True) for sets in _BROKEN for block in (8, 16)),
)  # the simplest first


@dataclass(frozen=True, slots=True)
class RowShape:
    """What is known of a row before it is measured: rows of equal shape share a law.

    `node` is the operator of a row behind a layer, empty for the layer itself. `in_varies`, `out_varies`: whether
    pruning can change the width. `geometry`: whatever else the time may depend on (kernel, stride, sizes).
    """

    kind: LayerKind
    in_channels: int
    out_channels: int
    in_varies: bool
    out_varies: bool
    node: str = ""
    geometry: tuple[int, ...] = ()

    @property
    def one_width(self) -> bool:
        """Whether the row depends on a single number of channels, its output's."""
        return self.kind in ("depthwise", "other")

    def has_thin(self, form: Form) -> bool:
        """Whether widths below the form's block can occur, and do not always."""
        width, varies = (self.out_channels, self.out_varies) if self.one_width else (self.in_channels, self.in_varies)
        return form.thin and varies and width >= form.block and self.kind != "linear"


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

    def scaled(self, factor: float) -> RowLaw:
        """The same law, `factor` times as long."""
        return RowLaw(self.shape, self.form, tuple(factor * value for value in self.coefficients))


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
    outs = _out_terms(shape, form, out_channels) if shape.out_varies else []
    if shape.one_width:
        narrow, thin = out_channels < form.block, [ones, out_channels / shape.out_channels]
        columns = [ones, *outs]
    else:
        ins = in_blocks(in_channels, form.block) / in_blocks(np.int64(shape.in_channels), form.block)
        narrow = in_channels < form.block
        thin = [*outs, *(in_channels / shape.in_channels * out for out in outs or [ones])]
        columns = [ones, *([ins] if shape.in_varies else []), *outs]
        columns += [ins * out for out in outs] if shape.in_varies else []
    if shape.has_thin(form):
        columns = [column * ~narrow for column in columns] + [narrow * column for column in thin]
    return np.stack(columns, axis=1)


def in_blocks(channels: Any, block: int) -> Any:
    """Channels rounded up to whole blocks, as a float."""
    return -(-channels // block) * float(block)


def admissible(shape: RowShape, form: Form, in_channels: Ints, out_channels: Ints) -> bool:
    """Whether these widths are enough to tell the form's parts from each other: thin and others, all broken sets."""
    if form.sets == "free" and shape.out_varies:
        rests = np.bincount(-(-out_channels // form.block) % _SET, minlength=_SET)
        if rests.min() < _LEAST_BROKEN:
            return False
    if form.sets == "whole" and shape.out_varies:
        few = int((out_channels <= _SET * form.block).sum())
        if few < _LEAST_THIN and shape.out_channels <= _RARELY * _SET * form.block:
            return False
    if not shape.has_thin(form):
        return not form.thin
    narrow = (out_channels if shape.one_width else in_channels) < form.block
    return _LEAST_THIN <= int(narrow.sum()) <= len(narrow) - _LEAST_THIN


def solve(columns: Floats, times_us: Floats, network_us: Floats) -> Floats:
    """Coefficients (p,) >= 0 with the least squared error, each network's error relative to its whole time.

    `columns` (n, p) are the row's features in the networks measured, `network_us` (n,) their end-to-end times.
    """
    coefficients, _residual = nnls(columns / network_us[:, None], times_us / network_us)
    found: Floats = coefficients
    return found


def overhead(sums_us: Floats, nodes: Floats, clock_us: Floats) -> float:
    """Microseconds that a profiler adds to every node: sums (n,) less that, times a scale, are the clock (n,).

    Fitted in relative error and robustly, by Huber's weights; never negative.
    """
    weights = np.ones(len(clock_us))
    columns = np.stack([sums_us, -nodes], axis=1) / clock_us[:, None]
    scale = added = 0.0
    for _ in range(_REWEIGHTINGS):
        (scale, added), _residual = nnls(columns * weights[:, None], weights)
        residuals = np.abs(columns @ [scale, added] - 1.0)
        weights = np.sqrt(_huber(residuals))
    return float(added / scale) if scale > 0 else 0.0


def calibrate(sums_us: Floats, clock_us: Floats, importance: Floats | float = 1.0) -> Calibration:
    """Scale and constant that bring sums (n,) nearest to the clock (n,), in relative error and robustly.

    `importance` (n,): for how many networks each counts. Huber's weights: networks beyond 1.345 deviations count less,
    so that one disturbed measurement does not tilt the line. A sum that does not vary gets a scale only.
    """
    if np.ptp(sums_us) <= 1e-9 * max(float(sums_us.max()), 1e-9):
        return Calibration(0.0, float(np.median(clock_us / np.maximum(sums_us, 1e-9))))
    weights = importance * clock_us**-2.0  # squared relative errors
    for _ in range(_REWEIGHTINGS):
        constant, scale = _weighted_line(sums_us, clock_us, weights)
        residuals = np.abs((constant + scale * sums_us) / clock_us - 1.0)
        weights = importance * clock_us**-2.0 * _huber(residuals)
    if scale <= 0.0:  # nothing but noise: the mean is the best that can be said, and it is monotone
        return Calibration(float(np.median(clock_us)), 0.0)
    return Calibration(constant, scale)


def _weighted_line(x: Floats, y: Floats, weights: Floats) -> tuple[float, float]:
    """Intercept and slope of the weighted least-squares line."""
    total = weights.sum()
    x_mean, y_mean = float(weights @ x / total), float(weights @ y / total)
    slope = float(weights @ ((x - x_mean) * (y - y_mean)) / (weights @ (x - x_mean) ** 2))
    return y_mean - slope * x_mean, slope


def _huber(residuals: Floats) -> Floats:
    """Huber's weights: those beyond 1.345 deviations count less."""
    limit = 1.345 * max(1.4826 * float(np.median(residuals)), 1e-4)
    weights: Floats = np.minimum(1.0, limit / np.maximum(residuals, 1e-12))
    return weights


def _out_terms(shape: RowShape, form: Form, out_channels: Ints) -> list[Floats]:
    """What grows with the output channels: their blocks, and their sets or what a broken set costs."""
    if form.sets == "free":
        blocks = -(-out_channels // form.block)
        whole = blocks // _SET / (-(-shape.out_channels // form.block) / _SET)
        return [whole, *((blocks % _SET == rest).astype(np.float64) for rest in range(1, _SET))]
    if form.sets == "whole":
        blocks = -(-out_channels // form.block)
        one, most = blocks <= _SET, -(-shape.out_channels // form.block) / _SET
        return [~one * -(-blocks // _SET) / most, one * blocks / (_SET * most), one.astype(np.float64)]
    steps = (form.block,) if form.sets == "ignored" else (form.block, _SET * form.block)
    return [in_blocks(out_channels, step) / in_blocks(np.int64(shape.out_channels), step) for step in steps]

"""From measured carriers to a law for every layer, and to an honest account of how wrong it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from amc_mobile.cost.formulas import macs
from amc_mobile.cost.pricer import width_function
from amc_mobile.cost.table import CarrierPoint, Validation
from amc_mobile.errors import DeviceError
from amc_mobile.profile.family import Relative, family_laws, proportion
from amc_mobile.profile.law import (
    FORMS,
    SIMPLER,
    Calibration,
    Floats,
    Form,
    Ints,
    RowLaw,
    RowShape,
    admissible,
    calibrate,
    features,
    overhead,
    solve,
)
from amc_mobile.profile.mapping import RowKey
from amc_mobile.types import NetworkGraph, Policy

_FOLDS = 6  # of the cross-validation that chooses the form of each law
_DETERMINED = 5  # networks that a law of four coefficients needs; with fewer, layers of a kind share theirs
_NEAR = 4.0  # for how many networks one counts, in the calibration, that was added where a search has been
_TINY = 0.002  # a row below this share of the network's time everywhere is taken as its mean


@dataclass(frozen=True, slots=True)
class Observations:
    """What was measured: n networks, end to end and row by row.

    `fixed` of them (the full and the smallest network) are never left out: every table has them, and a network that is
    to be predicted lies between them.
    """

    policies: tuple[Policy, ...]
    clock_us: Floats  # (n,)
    rows_us: Mapping[RowKey, Floats]  # each (n,)
    fixed: int
    together: tuple[int, ...] = ()  # (n,) networks of one number above 0 are left out at once: they are alike

    def random(self) -> range:
        """The places of the random carriers."""
        return range(self.fixed, len(self.policies))

    def without(self, place: int) -> list[int]:
        """The places of the others, less those that are too much like this one to be asked about it."""
        alike = self.together[place] if self.together else 0
        return [
            other
            for other in range(len(self.policies))
            if other != place and (alike == 0 or self.together[other] != alike)
        ]


@dataclass(frozen=True, slots=True)
class NetworkLaw:
    """The laws of all rows and the calibration of their sum. `overhead_us`: what the profiler added to every node."""

    rows: Mapping[RowKey, RowLaw]
    calibration: Calibration
    overhead_us: float = 0.0


@dataclass(frozen=True, slots=True)
class _Pool:
    """Rows of one shape, and by form the features (rows, networks, p) of all of them."""

    shape: RowShape
    keys: tuple[RowKey, ...]
    ins: Ints  # (rows, networks)
    outs: Ints
    columns: Mapping[Form, Floats]


class Fitter:
    """Fits laws to observations, on all of them or with some left out. Features are computed once."""

    def __init__(self, network: NetworkGraph, observations: Observations) -> None:
        """Raises: DeviceError if hardly any of the nodes that were timed belong to a layer."""
        self._seen = observations
        rows = observations.rows_us
        self._sums_us: Floats = np.sum(list(rows.values()), axis=0)
        self._nodes: Floats = np.sum([times > 0 for times in rows.values()], axis=0).astype(np.float64)
        layers = sum(times for key, times in rows.items() if not key.node)
        if not rows or np.sum(layers) < 0.3 * np.sum(self._sums_us):
            raise DeviceError(
                f"the device's per-node times do not name the layers of {network.name}; type --method layers"
            )
        self._pools = _pools(network, observations)

    def fit(self, places: Sequence[int]) -> NetworkLaw:
        """Laws fitted to the networks at `places`, each of the form that predicts best when parts are left out.

        The profiler's own time is taken off every node. Then each network's rows are brought to add up to its
        end-to-end time: the clock is read many more times end to end than by the profiler, whose sessions differ by
        some percent as a whole. A few networks determine neither the laws of single layers nor the profiler's time
        nor the calibration's constant: layers of a kind share a law then, and the other two are zero.
        """
        at = np.asarray(places)
        few = len(at) < _DETERMINED
        clock, nodes = self._seen.clock_us[at], self._nodes[at]
        added_us = 0.0 if few else overhead(self._sums_us[at], nodes, clock)
        cleaned = {key: _less(times[at], added_us) for key, times in self._seen.rows_us.items()}
        sums = np.sum(list(cleaned.values()), axis=0)
        raw = proportion(sums, clock) if few else calibrate(sums, clock)
        shares = np.maximum(clock - raw.constant_us, 0.0) / np.maximum(sums, 1e-9)
        laws: dict[RowKey, RowLaw] = {}
        relatives: list[Relative] = []
        for pool in self._pools:
            times = np.stack([cleaned[key] * shares for key in pool.keys])
            if few and not _is_constant(pool.shape, times, clock):
                widths = zip(pool.keys, pool.ins[:, at], pool.outs[:, at], times, strict=True)
                relatives += [Relative(key, pool.shape, *row) for key, *row in widths]
            else:
                laws.update(self._fit_pool(pool, times, at))
        laws.update(family_laws(relatives, clock))
        sums = self._sums(laws, at)
        near = np.array([_NEAR if self._seen.together and self._seen.together[place] else 1.0 for place in at])
        return NetworkLaw(laws, proportion(sums, clock) if few else calibrate(sums, clock, near), added_us)

    def predict(self, law: NetworkLaw, places: Sequence[int]) -> Floats:
        """End-to-end times (len(places),) in µs by a law."""
        times: Floats = law.calibration(self._sums(law.rows, np.asarray(places)))
        return times

    def _fit_pool(self, pool: _Pool, times_us: Floats, at: Ints) -> dict[RowKey, RowLaw]:
        """Laws of a pool's rows from their times (rows, networks) in the networks `at`."""
        clock = self._seen.clock_us[at]
        shape = pool.shape
        if _is_constant(shape, times_us, clock):
            means = (times_us / clock**2).sum(axis=1) / (clock**-2.0).sum()
            return {key: RowLaw(shape, Form(1), (float(mean),)) for key, mean in zip(pool.keys, means, strict=True)}
        form = self._best_form(pool, times_us, at)
        columns = pool.columns[form][:, at]
        common = RowLaw(shape, form, tuple(_solve(columns, times_us, clock).tolist()))
        laws = {}
        for key, row_columns, row_times in zip(pool.keys, columns, times_us, strict=True):
            expected = common.combine(row_columns) / clock
            norm = float(expected @ expected)
            laws[key] = common.scaled(float(expected @ (row_times / clock)) / norm) if norm > 0 else common
        return laws

    def _best_form(self, pool: _Pool, times_us: Floats, at: Ints) -> Form:
        chosen, least = FORMS[0], np.inf
        for form in pool.columns:
            if not admissible(pool.shape, form, pool.ins[:, at].ravel(), pool.outs[:, at].ravel()):
                continue
            if (error := self._fold_error(pool, form, times_us, at)) * SIMPLER < least:
                chosen, least = form, error
        return chosen

    def _fold_error(self, pool: _Pool, form: Form, times_us: Floats, at: Ints) -> float:
        """Mean |error| of rows in networks left out, relative to the network's time."""
        clock, columns = self._seen.clock_us[at], pool.columns[form][:, at]
        random = np.flatnonzero(at >= self._seen.fixed)
        total = 0.0
        for fold in range(min(_FOLDS, len(random))):
            left_out = random[fold::_FOLDS]
            rest = np.setdiff1d(np.arange(len(at)), left_out)
            found = _solve(columns[:, rest], times_us[:, rest], clock[rest])
            total += float(np.sum(np.abs(columns[:, left_out] @ found - times_us[:, left_out]) / clock[left_out]))
        return total

    def _sums(self, laws: Mapping[RowKey, RowLaw], places: Ints) -> Floats:
        sums = np.zeros(len(places))
        for pool in self._pools:
            for row, key in enumerate(pool.keys):
                law = laws[key]
                if law.form in pool.columns:
                    sums += law.combine(pool.columns[law.form][row, places])
                else:  # a family's form, which says the same as a simpler one at this row's widths
                    sums += law.times_us(pool.ins[row, places], pool.outs[row, places])
        return sums


def _pools(network: NetworkGraph, seen: Observations) -> list[_Pool]:
    by_shape: dict[RowShape, list[RowKey]] = {}
    for key in seen.rows_us:
        by_shape.setdefault(row_shape(network, key), []).append(key)
    pools = []
    for shape, keys in by_shape.items():
        widths = [_row_widths(network, key, seen.policies) for key in keys]
        ins, outs = (np.stack([pair[axis] for pair in widths]) for axis in (0, 1))
        pools.append(_Pool(shape, tuple(keys), ins, outs, _different(shape, ins, outs)))
    return pools


def _different(shape: RowShape, ins: Ints, outs: Ints) -> dict[Form, Floats]:
    """The features (rows, networks, p) of every form that says something else than a simpler one at these widths."""
    found: dict[Form, Floats] = {}
    seen: set[bytes] = set()
    for form in FORMS:
        columns = np.stack([features(shape, form, *pair) for pair in zip(ins, outs, strict=True)])
        if (content := columns.tobytes()) not in seen:
            seen.add(content)
            found[form] = columns
    return found


def _solve(columns: Floats, times_us: Floats, clock_us: Floats) -> Floats:
    """The common coefficients of rows (rows, networks, p)."""
    rows, _networks, features_each = columns.shape
    return solve(columns.reshape(-1, features_each), times_us.ravel(), np.tile(clock_us, rows))


def _is_constant(shape: RowShape, times_us: Floats, clock_us: Floats) -> bool:
    """Whether rows have no width that varies, or take too little of every network's time to be worth a law."""
    return bool(times_us.max() < _TINY * clock_us.min()) or not (shape.in_varies or shape.out_varies)


def _less(times_us: Floats, added_us: float) -> Floats:
    """Node times without what the profiler added; a node that took hardly longer keeps a little."""
    return np.maximum(times_us - added_us, 0.1 * times_us)


def validate(network: NetworkGraph, seen: Observations, noise_floor: float) -> Validation:
    """How wrong the table is: each random carrier is predicted by laws, form and calibration made without it."""
    fitter = Fitter(network, seen)
    points, macs_points = [], []
    counts = np.array([macs(network, policy.kept) for policy in seen.policies], np.float64)
    for place in seen.random():
        rest = seen.without(place)
        clock = float(seen.clock_us[place])
        points.append(CarrierPoint(clock, float(fitter.predict(fitter.fit(rest), [place])[0])))
        macs_points.append(CarrierPoint(clock, float(calibrate(counts[rest], seen.clock_us[rest])(counts[place]))))
    return judge(points, macs_points, len(seen.policies), noise_floor)


def judge(
    points: Sequence[CarrierPoint], macs_points: Sequence[CarrierPoint], networks: int, noise_floor: float
) -> Validation:
    """The errors of predictions and of the baseline, the line through the MACs, in numbers."""
    errors, macs_errors = errors_of(points), errors_of(macs_points)
    return Validation(
        carriers=networks,
        mape=float(np.abs(errors).mean()),
        max_error=float(np.abs(errors).max()),
        bias=float(errors.mean()),
        within_5=float((np.abs(errors) <= 0.05).mean()),
        within_10=float((np.abs(errors) <= 0.10).mean()),
        noise_floor=noise_floor,
        macs_affine_mape=float(np.abs(macs_errors).mean()),
        points=tuple(points),
    )


def row_shape(network: NetworkGraph, key: RowKey) -> RowShape:
    """Full widths of a row and which of them can vary. A node behind a layer has the layer's output channels."""
    layer = next((layer for layer in network.layers if layer.name == key.layer), None)
    if layer is None:
        return RowShape("other", 1, 1, in_varies=False, out_varies=False, node=key.node)
    in_varies = any(network.groups[span.group].prunable for span in layer.in_spans)
    out_varies = any(network.groups[span.group].prunable for span in layer.out_spans)
    if key.node:
        channels = layer.out_channels
        return RowShape("other", channels, channels, out_varies, out_varies, key.node, layer.out_hw)
    geometry = (*layer.kernel, *layer.stride, *layer.padding, layer.groups, *layer.in_hw, *layer.out_hw)
    return RowShape(layer.kind, layer.in_channels, layer.out_channels, in_varies, out_varies, "", geometry)


def _row_widths(network: NetworkGraph, key: RowKey, policies: Sequence[Policy]) -> tuple[Ints, Ints]:
    layer = next((layer for layer in network.layers if layer.name == key.layer), None)
    if layer is None:
        return np.ones(len(policies), np.int64), np.ones(len(policies), np.int64)
    widths = width_function(layer, network)
    pairs = np.array([widths(policy.kept) for policy in policies], np.int64)
    return (pairs[:, 1] if key.node else pairs[:, 0]), pairs[:, 1]


def errors_of(points: Sequence[CarrierPoint]) -> Floats:
    """Predicted / measured - 1, (n,)."""
    return np.array([point.predicted_us / point.measured_us - 1.0 for point in points])

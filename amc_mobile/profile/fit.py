"""From measured carriers to a law for every layer, and to an honest account of how wrong it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from amc_mobile.cost.formulas import macs
from amc_mobile.cost.pricer import width_function
from amc_mobile.cost.table import CarrierPoint, Validation
from amc_mobile.errors import DeviceError
from amc_mobile.profile.law import (
    FORMS,
    Calibration,
    Floats,
    Form,
    Ints,
    RowLaw,
    RowShape,
    calibrate,
    features,
    fit_row,
)
from amc_mobile.profile.mapping import RowKey
from amc_mobile.types import NetworkGraph, Policy

_FOLDS = 6  # of the cross-validation that chooses the form of the laws


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

    def random(self) -> range:
        """The places of the random carriers."""
        return range(self.fixed, len(self.policies))


@dataclass(frozen=True, slots=True)
class NetworkLaw:
    """The laws of all rows and the calibration of their sum."""

    form: Form
    rows: Mapping[RowKey, RowLaw]
    calibration: Calibration


class Fitter:
    """Fits laws to observations, on all of them or with some left out. Features are computed once."""

    def __init__(self, network: NetworkGraph, observations: Observations) -> None:
        """Raises: DeviceError if hardly any of the nodes that were timed belong to a layer."""
        self._seen = observations
        self.shapes = {key: row_shape(network, key) for key in observations.rows_us}
        self.sums_us: Floats = np.sum(list(observations.rows_us.values()), axis=0)
        layers = sum(times for key, times in observations.rows_us.items() if not key.node)
        if np.sum(layers) < 0.3 * np.sum(self.sums_us):
            raise DeviceError(
                f"the device's per-node times do not name the layers of {network.name}; use ONNX Runtime's CPU provider"
            )
        widths = {key: _row_widths(network, key, observations.policies) for key in self.shapes}
        self._columns = {
            form: {key: features(self.shapes[key], form, *widths[key]) for key in self.shapes} for form in FORMS
        }

    def fit(self, places: Sequence[int]) -> NetworkLaw:
        """The law of the form that predicts best when parts of `places` are left out, fitted to all of `places`."""
        return self.fit_form(self._best_form(places), places)

    def fit_form(self, form: Form, places: Sequence[int]) -> NetworkLaw:
        """Laws of one form. Each network's rows are first brought to add up to its end-to-end time.

        The clock is read many more times end to end than by the profiler, whose sessions differ by some percent as a
        whole: that difference is taken out before rows are compared across networks.
        """
        at = np.asarray(places)
        clock = self._seen.clock_us[at]
        raw = calibrate(self.sums_us[at], clock)
        shares = (clock - raw.constant_us) / np.maximum(self.sums_us[at], 1e-9)
        laws, columns = {}, self._columns[form]
        for key, times in self._seen.rows_us.items():
            laws[key] = fit_row(self.shapes[key], form, columns[key][at], times[at] * shares, clock)
        return NetworkLaw(form, laws, calibrate(self._sums(form, laws, at), clock))

    def predict(self, law: NetworkLaw, places: Sequence[int]) -> Floats:
        """End-to-end times (len(places),) in µs by a law."""
        times: Floats = law.calibration(self._sums(law.form, law.rows, np.asarray(places)))
        return times

    def _best_form(self, places: Sequence[int]) -> Form:
        return min(FORMS, key=lambda form: self._fold_error(form, places))

    def _fold_error(self, form: Form, places: Sequence[int]) -> float:
        random = [place for place in places if place >= self._seen.fixed]
        errors = []
        for fold in range(min(_FOLDS, len(random))):
            left_out = random[fold::_FOLDS]
            law = self.fit_form(form, [place for place in places if place not in left_out])
            errors += np.abs(self.predict(law, left_out) / self._seen.clock_us[left_out] - 1.0).tolist()
        return float(np.mean(errors))

    def _sums(self, form: Form, laws: Mapping[RowKey, RowLaw], places: Ints) -> Floats:
        columns = self._columns[form]
        sums: Floats = np.sum([law.combine(columns[key][places]) for key, law in laws.items()], axis=0)
        return sums


def validate(network: NetworkGraph, seen: Observations, noise_floor: float) -> Validation:
    """How wrong the table is: each random carrier is predicted by laws, form and calibration made without it."""
    fitter, everyone = Fitter(network, seen), range(len(seen.policies))
    points, macs_points = [], []
    counts = np.array([macs(network, policy.kept) for policy in seen.policies], np.float64)
    for place in seen.random():
        rest = [other for other in everyone if other != place]
        clock = float(seen.clock_us[place])
        points.append(CarrierPoint(clock, float(fitter.predict(fitter.fit(rest), [place])[0])))
        macs_points.append(CarrierPoint(clock, float(calibrate(counts[rest], seen.clock_us[rest])(counts[place]))))
    errors, macs_errors = _errors(points), _errors(macs_points)
    return Validation(
        carriers=len(seen.policies),
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
        return RowShape("other", 1, 1, in_varies=False, out_varies=False)
    in_varies = any(network.groups[span.group].prunable for span in layer.in_spans)
    out_varies = any(network.groups[span.group].prunable for span in layer.out_spans)
    if key.node:
        return RowShape("other", layer.out_channels, layer.out_channels, in_varies=out_varies, out_varies=out_varies)
    return RowShape(layer.kind, layer.in_channels, layer.out_channels, in_varies=in_varies, out_varies=out_varies)


def _row_widths(network: NetworkGraph, key: RowKey, policies: Sequence[Policy]) -> tuple[Ints, Ints]:
    layer = next((layer for layer in network.layers if layer.name == key.layer), None)
    if layer is None:
        return np.ones(len(policies), np.int64), np.ones(len(policies), np.int64)
    widths = width_function(layer, network)
    pairs = np.array([widths(policy.kept) for policy in policies], np.int64)
    return (pairs[:, 1] if key.node else pairs[:, 0]), pairs[:, 1]


def _errors(points: Sequence[CarrierPoint]) -> Floats:
    return np.array([point.predicted_us / point.measured_us - 1.0 for point in points])

"""What was achieved: accuracy, speed and size (the budget: `limits`). Each derived number is computed here, once."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from amc_mobile.cost import formulas
from amc_mobile.measurements import Comparison, Measurement
from amc_mobile.report.sources import Accuracy, Sources, Tested
from amc_mobile.types import ACCURACIES, AccuracyName, Precision


@dataclass(frozen=True, slots=True)
class TestedRow:
    """One network on the test images; `top1_error` and `top5_error` are standard errors, sqrt(p (1 - p) / n).

    A detector has `map` and `map50` instead, which are no shares of images and have no such error.
    """

    label: str
    top1: float | None
    top1_error: float | None
    top5: float | None
    top5_error: float | None
    map: float | None = None
    map50: float | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """An accuracy before and after, with standard errors; `after` is None before the pruned network was tested.

    `interval` is the change's, 95 %, image by image; None where it is not known, as for a detector.
    """

    before: float
    after: float | None
    before_error: float | None
    after_error: float | None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class AccuracyFacts:
    """Accuracy on images that the search never saw; `before` and `after` are in the run's own metric and precision."""

    metric: AccuracyName
    images: int
    search_images: int | None
    before: float
    after: float | None
    before_error: float | None
    after_error: float | None
    finetuned: bool
    uniform: float | None
    rows: tuple[TestedRow, ...]
    precision: Precision = "fp32"
    fp32: Change | None = None
    int8: Change | None = None
    lead: Change | None = None  # from uniform pruning to what was pruned and repaired

    @property
    def judged(self) -> Change | None:
        """In the run's own precision."""
        return self.int8 if self.precision == "int8" else self.fp32


@dataclass(frozen=True, slots=True)
class RoundTimes:
    """One interleaved round of one network, µs: median and the 10th and 90th percentile of its runs."""

    median_us: float
    p10_us: float
    p90_us: float


@dataclass(frozen=True, slots=True)
class SpeedFacts:
    """Original against pruned on the clock; `speedup` is original / pruned, its interval is 95 %."""

    before_us: float
    after_us: float
    speedup: float
    speedup_ci: tuple[float, float]
    predicted_us: float | None
    prediction_error: float | None  # predicted / measured - 1
    emulated: bool
    original: tuple[RoundTimes, ...]
    pruned: tuple[RoundTimes, ...]
    drift: float | None  # the original's time in the comparison / when the table was measured
    round_spread: float  # half the range of the pruned network's round medians, relative to their median


@dataclass(frozen=True, slots=True)
class SizeFacts:
    """Work and size of the original and of the pruned network."""

    macs_before: int
    params_before: int
    bytes_before: int
    macs_after: int | None
    params_after: int | None
    bytes_after: int | None
    memory_before: int = 0  # peak of the activations; 0 where nothing is known of them
    memory_after: int | None = None


def standard_error(share: float, images: int) -> float:
    """Standard error of a share of `images` independent images: sqrt(p (1 - p) / n); 0 without images."""
    return math.sqrt(max(0.0, share * (1.0 - share)) / images) if images > 0 else 0.0


def accuracy_facts(accuracy: Accuracy | None) -> AccuracyFacts | None:
    """The accuracy table, or None before anything was tested."""
    if accuracy is None:
        return None
    images, metric = accuracy.test_images, accuracy.metric
    shipped, found = accuracy.finetuned or accuracy.pruned, accuracy.change_ci
    fp32 = _change(accuracy.original, shipped, metric, images, found.get("fp32"))
    int8 = lead = None
    if accuracy.original_int8 is not None:
        int8 = _change(accuracy.original_int8, accuracy.int8, metric, images, found.get("int8"))
    if accuracy.uniform is not None:
        lead = _change(accuracy.uniform, accuracy.pruned, metric, images, accuracy.lead_ci)
    judged, uniform = fp32, accuracy.uniform
    if accuracy.precision == "int8" and int8 is not None:
        judged, uniform = int8, accuracy.uniform_int8
    labelled = (
        ("original", accuracy.original),
        ("pruned and repaired", accuracy.pruned),
        ("pruned, repaired and fine-tuned", accuracy.finetuned),
        ("uniform pruning at the same budget, repaired", accuracy.uniform),
        ("original, int8", accuracy.original_int8),
        ("what ships, int8" if accuracy.finetuned is None else "what ships, fine-tuned, int8", accuracy.int8),
        ("uniform pruning, repaired, int8", accuracy.uniform_int8),
    )
    return AccuracyFacts(
        metric=metric,
        images=images,
        search_images=accuracy.search_images,
        before=judged.before,
        after=judged.after,
        before_error=judged.before_error,
        after_error=judged.after_error,
        finetuned=accuracy.finetuned is not None,
        uniform=_in_metric(uniform, metric),
        rows=tuple(_tested_row(label, tested, images) for label, tested in labelled if tested is not None),
        precision="int8" if judged is int8 else "fp32",
        fp32=fp32,
        int8=int8,
        lead=lead,
    )


def _change(
    original: Tested,
    pruned: Tested | None,
    metric: AccuracyName,
    images: int,
    interval: tuple[float, float] | None,
) -> Change:
    before, after = original.share(metric) or 0.0, _in_metric(pruned, metric)
    return Change(before, after, _error(before, metric, images), _error(after, metric, images), interval)


def _in_metric(tested: Tested | None, metric: AccuracyName) -> float | None:
    return None if tested is None else tested.share(metric)


def _error(share: float | None, metric: AccuracyName, images: int) -> float | None:
    """Its standard error, if it is a share of images."""
    return None if share is None or metric in ACCURACIES["detection"] else standard_error(share, images)


def _tested_row(label: str, tested: Tested, images: int) -> TestedRow:
    errors = _error(tested.top1, "top1", images), _error(tested.top5, "top5", images)
    return TestedRow(label, tested.top1, errors[0], tested.top5, errors[1], tested.map, tested.map50)


def speed_facts(comparison: Comparison | None) -> SpeedFacts | None:
    """The interleaved measurement, or None before `amc bench`."""
    if comparison is None:
        return None
    medians = comparison.pruned.round_medians_us()
    spread = (max(medians) - min(medians)) / 2 / statistics.median(medians) if medians else 0.0
    return SpeedFacts(
        before_us=comparison.latency_before_us,
        after_us=comparison.latency_after_us,
        speedup=comparison.speedup,
        speedup_ci=comparison.speedup_ci,
        predicted_us=comparison.predicted_us,
        prediction_error=comparison.prediction_error,
        drift=comparison.drift,
        emulated=comparison.device.emulated,
        original=round_times(comparison.original),
        pruned=round_times(comparison.pruned),
        round_spread=spread,
    )


def round_times(measurement: Measurement) -> tuple[RoundTimes, ...]:
    """Every round in three numbers."""
    return tuple(
        RoundTimes(statistics.median(values), _quantile(values, 0.1), _quantile(values, 0.9))
        for values in measurement.values_us
        if values
    )


def _quantile(values: tuple[float, ...], share: float) -> float:
    ordered = sorted(values)
    return ordered[round(share * (len(ordered) - 1))]


def size_facts(sources: Sources) -> SizeFacts:
    """MACs and parameters by formula; bytes of the files as written, where the run recorded them."""
    network, full, kept = sources.network, sources.network.full().kept, sources.kept
    bytes_after = None if kept is None else formulas.size_bytes(network, kept)
    return SizeFacts(
        macs_before=formulas.macs(network, full),
        params_before=formulas.params(network, full),
        bytes_before=sources.summary.bytes_before or formulas.size_bytes(network, full),
        macs_after=None if kept is None else formulas.macs(network, kept),
        params_after=None if kept is None else formulas.params(network, kept),
        bytes_after=sources.summary.bytes_after or bytes_after,
        memory_before=formulas.memory_bytes(network, full),
        memory_after=None if kept is None else formulas.memory_bytes(network, kept),
    )

"""Several finished runs of one network on one device, as points of accuracy against the clock."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from amc_mobile.config import RunConfig
from amc_mobile.errors import RunFolderError
from amc_mobile.measurements import DEVICE_KEY, DeviceInfo
from amc_mobile.models.paired import share_interval
from amc_mobile.report import wording as say
from amc_mobile.report.clock_figure import ORIGINAL, ClockPoint
from amc_mobile.report.devices import DeviceFacts, NetworkSpeed, device_facts
from amc_mobile.report.sources import Accuracy, Sources, Tested, read_sources
from amc_mobile.runs import RunFolder
from amc_mobile.sections.budget import BUDGET_METRICS
from amc_mobile.types import ACCURACIES, AccuracyName, Precision

_AMC = ("auto", "ddpg", "ddpg-warm", "sb3-ddpg", "sb3-td3")
_ROUNDED = 2.5  # answers by which the same network may differ on two machines
_PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """One run among others. Its times were multiplied by `clock` so that its original takes what the others' take."""

    folder: str
    method: str
    label: str
    clock: float


@dataclass(frozen=True, slots=True)
class Compared:
    """What `amc compare` shows: the original's points first, then those of every run."""

    model: str
    device: DeviceInfo
    metric: AccuracyName
    images: int
    points: tuple[ClockPoint, ...]
    runs: tuple[ComparedRun, ...]

    @property
    def on(self) -> str:
        """The device for the axis of a picture."""
        return on_device(self.device)


def compare_runs(folders: Sequence[RunFolder]) -> Compared:
    """Reads finished runs. Raises: RunFolderError if one is not finished, or they cannot be compared."""
    runs = [_Run(read_sources(folder)) for folder in folders]
    first = runs[0]
    for run in runs[1:]:
        run.require_same(first)
    reference_us: dict[Precision, float] = {
        precision: statistics.median(run.original_us[precision] for run in runs if precision in run.original_us)
        for precision in _PRECISIONS
        if any(precision in run.original_us for run in runs)
    }
    clocks = [run.clock(reference_us) for run in runs]
    points = [point for run, clock in zip(runs, clocks, strict=True) for point in run.points(clock)]
    originals: dict[Precision, ClockPoint] = {}
    for point in points:
        if point.method == ORIGINAL:
            originals.setdefault(point.precision, point)
    return Compared(
        model=first.config.model.name,
        device=first.device.info,
        metric=first.accuracy.metric,
        images=first.accuracy.test_images,
        points=(*originals.values(), *(point for point in points if point.method != ORIGINAL)),
        runs=tuple(
            ComparedRun(str(run.folder.root), *method_of(run.config), clock)
            for run, clock in zip(runs, clocks, strict=True)
        ),
    )


class _Run:
    """One run's files, as far as they are compared."""

    def __init__(self, sources: Sources) -> None:
        self.folder, self.sha256 = sources.folder, sources.model_sha256
        name = self.folder.root
        if sources.config is None:
            raise RunFolderError(f"{name} has no config.toml of this version; type `amc run` with its config again")
        if sources.comparison is None or sources.accuracy is None:
            verb = "bench" if sources.comparison is None else "report"
            raise RunFolderError(f"{name} is not finished; type `amc {verb} {name}`")
        self.config: RunConfig = sources.config
        self.accuracy: Accuracy = sources.accuracy
        self.device: DeviceFacts = device_facts(sources)[0]
        self.original_sha256 = self.folder.original_sha256()
        self.original_accuracy = self.accuracy.original.share(self.accuracy.metric) or 0.0
        self.original_us = {precision: before.latency_us for precision, before, _ in self._timed()}

    def require_same(self, other: _Run) -> None:
        """Raises: RunFolderError if the other run is of another network, device, training or test images."""
        names = [name for name in DEVICE_KEY if name != "precision"]
        mine, theirs = ([getattr(run.device.info, name) for name in names] for run in (self, other))
        what = "network" if self.sha256 != other.sha256 else "device" if mine != theirs else ""
        if self.accuracy.test_images != other.accuracy.test_images:
            what = what or "number of test images"
        if self.original_sha256 != other.original_sha256:
            what = what or "original (another training of it)"
        if abs(self.original_accuracy - other.original_accuracy) * self.accuracy.test_images > _ROUNDED:
            what = what or "test set (the same original answers otherwise)"
        if what:
            raise RunFolderError(f"{self.folder.root} has another {what} than {other.folder.root}: compare runs of one")

    def clock(self, reference_us: Mapping[Precision, float]) -> float:
        """What this run's times are multiplied by: its original took more or less than those of the others."""
        precision: Precision = "fp32" if "fp32" in self.original_us else "int8"
        return reference_us[precision] / self.original_us[precision]

    def points(self, clock: float) -> Iterator[ClockPoint]:
        """Original and pruned network, in every precision that was timed and tested."""
        method, label = method_of(self.config)
        accuracy = self.accuracy
        tested: dict[str, tuple[Tested | None, Tested | None]] = {
            "fp32": (accuracy.original, accuracy.finetuned or accuracy.pruned),
            "int8": (accuracy.original_int8, accuracy.int8),
        }
        for precision, *speeds in self._timed():
            names = ((ORIGINAL, ""), (method, label))
            for (name, words), speed, result in zip(names, speeds, tested[precision], strict=True):
                if result is not None:
                    yield self._point(name, words, precision, speed, result, clock)

    def _point(
        self, method: str, label: str, precision: Precision, speed: NetworkSpeed, tested: Tested, clock: float
    ) -> ClockPoint:
        metric = self.accuracy.metric
        share = tested.share(metric) or 0.0
        low, high = speed.latency_ci
        return ClockPoint(
            method,
            precision,
            speed.latency_us * clock,
            share,
            label,
            (low * clock, high * clock),
            None if metric in ACCURACIES["detection"] else share_interval(share, self.accuracy.test_images),
        )

    def _timed(self) -> Iterator[tuple[Precision, NetworkSpeed, NetworkSpeed]]:
        """Original and pruned network in each precision."""
        device = self.device
        own: Precision = "int8" if device.info.precision == "int8" else "fp32"
        yield own, device.original, device.pruned
        if device.original_int8 is not None and device.int8 is not None:
            yield "int8", device.original_int8, device.int8


def method_of(config: RunConfig) -> tuple[str, str]:
    """How a run's network was made, and under how much of the budget: ("AMC under latency", "65 %")."""
    name = "AMC" if config.search.agent in _AMC else config.search.agent
    limits = config.budget.limits()
    if config.search.protocol == "accuracy":
        return f"{name}, guaranteed accuracy", f"−{config.search.max_loss:.1%}"
    if not limits:  # on further devices only
        return f"{name} under latency elsewhere", ", ".join(str(each.latency) for each in config.budget.also)
    metric, amount = next(iter(limits.items()))
    written = getattr(config.budget, next(key for key, value in BUDGET_METRICS.items() if value == metric))
    label = f"{amount.value:.0%}" if amount.relative else str(written)
    return (f"{name} under {say.METRIC_NAMES[metric]}" if name == "AMC" else name), label


def on_device(info: DeviceInfo) -> str:
    """The device in a few words: "AMD EPYC, 1 thread"."""
    return f"{'EMULATED ' if info.emulated else ''}{info.model}, {info.threads} thread{'s' * (info.threads != 1)}"


def table_rows(points: Sequence[ClockPoint], device: DeviceInfo) -> list[tuple[str, ...]]:
    """The points as text under a heading; speed-ups are against the original in fp32, none on an emulator."""
    rows: list[tuple[str, ...]] = [("network", "budget", "precision", "latency", "speed-up", "accuracy", "95 %")]
    base = next((point.latency_us for point in points if (point.method, point.precision) == (ORIGINAL, "fp32")), None)
    base = None if device.emulated else base
    for point in points:
        low, high = point.accuracy_ci or (point.accuracy, point.accuracy)
        rows.append(
            (
                point.method,
                point.label or "–",
                point.precision,
                say.ms(point.latency_us),
                "–" if base is None else say.times(base / point.latency_us),
                say.percent(point.accuracy),
                f"{say.bare_percent(low)}–{say.percent(high)}" if point.accuracy_ci else "–",
            )
        )
    return rows

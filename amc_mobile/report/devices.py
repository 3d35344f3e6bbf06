"""How fast the networks are on each device that timed them, the run's own device first."""

from __future__ import annotations

import re
import shlex
import statistics
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from amc_mobile.measurements import Comparison, Conditions, DeviceInfo, LayerTime, Measurement
from amc_mobile.profile.interval import latency_interval
from amc_mobile.report.conditions import Rows, comparison_rows, device_rows
from amc_mobile.report.outcome import RoundTimes, round_times
from amc_mobile.report.sources import Sources


@dataclass(frozen=True, slots=True)
class NetworkSpeed:
    """One network on one device; what the device did not tell is None.

    `speedup` is original / this one, with its 95 % interval; None for the original, and where the device is emulated.
    `load_us` and `first_run_us` are medians over the rounds, `peak_bytes` is the most of any round.
    """

    label: str  # "original", "pruned", "original_int8", "int8" (the pruned one)
    latency_us: float
    latency_ci: tuple[float, float]
    speedup: float | None
    speedup_ci: tuple[float, float] | None
    load_us: float | None
    first_run_us: float | None
    peak_bytes: int | None
    file_bytes: int | None
    rounds: tuple[RoundTimes, ...]
    states: tuple[Conditions, ...]  # at the end of every round


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """Everything that one device says of the networks.

    `line` names it and its runtime in a few words, `warnings` are what a reader must know before the numbers.
    """

    info: DeviceInfo
    title: str
    own: bool  # the device of the run, for which the search was made
    line: tuple[str, ...]
    networks: tuple[NetworkSpeed, ...]
    predicted_us: float | None  # of the pruned network, on the clock of the comparison
    prediction_error: float | None
    drift: float | None
    layers: tuple[LayerTime, ...]
    warnings: tuple[str, ...]
    stale: bool  # it timed an earlier network of this run
    throttled: int  # timings that were dropped because the device held its clock down
    conditions: Rows

    @property
    def original(self) -> NetworkSpeed:
        """The network before pruning."""
        return self.networks[0]

    @property
    def pruned(self) -> NetworkSpeed:
        """The network that ships."""
        return self.networks[1]

    @property
    def int8(self) -> NetworkSpeed | None:
        """The pruned network, quantised."""
        return self._labelled("int8")

    @property
    def original_int8(self) -> NetworkSpeed | None:
        """The network before pruning, quantised."""
        return self._labelled("original_int8")

    def _labelled(self, label: str) -> NetworkSpeed | None:
        return next((network for network in self.networks if network.label == label), None)


def device_facts(sources: Sources) -> tuple[DeviceFacts, ...]:
    """Every device that timed the networks."""
    own = () if sources.comparison is None else (_facts(sources.comparison, sources, own=True),)
    return (*own, *(_facts(comparison, sources, own=False) for comparison in sources.elsewhere))


def _facts(comparison: Comparison, sources: Sources, *, own: bool) -> DeviceFacts:
    info = comparison.device
    throttled = info.details.get("throttled", "")
    known = (comparison.model_sha256, sources.shipped_sha256), (comparison.int8_sha256, sources.int8_sha256)
    stale = not own and any(all(pair) and pair[0] != pair[1] for pair in known)
    return DeviceFacts(
        info=info,
        title=info.model if info.name in info.model else f"{info.model} ({info.name})",
        own=own,
        line=tuple(_line(info)),
        networks=tuple(_networks(comparison)),
        predicted_us=comparison.predicted_us,
        prediction_error=comparison.prediction_error,
        drift=comparison.drift,
        layers=comparison.layers,
        warnings=tuple(_warnings(comparison, sources, stale=stale)),
        stale=stale,
        throttled=int(throttled) if throttled.isdecimal() else 0,
        conditions=(*device_rows(info), *comparison_rows(comparison)),
    )


def _line(info: DeviceInfo) -> Iterator[str]:
    """Chip, system, runtime, cores, runner: what the device told of them."""
    details = info.details
    if "soc" in details:
        yield details["soc"]
    yield info.os
    yield info.runtime
    yield info.provider
    yield f"{info.precision}, {info.threads} thread{'s' * (info.threads != 1)}"
    if info.batch != 1:
        yield f"batch of {info.batch}"
    if "cores" in details:
        one = details["cores"].isdecimal()
        pinned = {"yes": ", pinned", "no": ", not pinned"}.get(details.get("pinned", ""), "")
        yield f"core{'s' * (not one)} {_ranges(details['cores'])}{pinned}"
    if "clock" in details:
        yield f"clock: {details['clock']}"
    if "build" in details:
        yield f"runner: {details['build']}"


def _ranges(cores: str) -> str:
    """A list of cores, neighbours drawn together.

    >>> _ranges("0,1,2,3,7"), _ranges("4,5"), _ranges("big")
    ('0–3, 7', '4, 5', 'big')
    """
    if not re.fullmatch(r"\d{1,4}(,\d{1,4})*", cores):
        return cores
    groups: list[list[int]] = []
    for core in sorted(set(map(int, cores.split(",")))):
        if groups and core == groups[-1][-1] + 1:
            groups[-1].append(core)
        else:
            groups.append([core])
    return ", ".join(f"{one[0]}–{one[-1]}" if len(one) > 2 else ", ".join(map(str, one)) for one in groups)


def _networks(comparison: Comparison) -> Iterator[NetworkSpeed]:
    yield _network("original", comparison.original, comparison)
    yield _network("pruned", comparison.pruned, comparison, comparison.speedup, comparison.speedup_ci)
    alone = comparison.original_int8
    if alone is not None:
        speedup, interval = comparison.speedup_original_int8, comparison.speedup_original_int8_ci
        yield _network("original_int8", alone, comparison, speedup, interval)
    if comparison.int8 is not None:
        yield _network("int8", comparison.int8, comparison, comparison.speedup_int8, comparison.speedup_int8_ci)


def _network(
    label: str,
    measured: Measurement,
    comparison: Comparison,
    speedup: float | None = None,
    speedup_ci: tuple[float, float] | None = None,
) -> NetworkSpeed:
    medians, emulated = measured.round_medians_us(), comparison.device.emulated
    latencies_us = {
        "original": comparison.latency_before_us,
        "pruned": comparison.latency_after_us,
        "original_int8": comparison.latency_original_int8_us,
        "int8": comparison.latency_int8_us,
    }
    latency_us = latencies_us[label]
    return NetworkSpeed(
        label=label,
        latency_us=measured.latency_us() if latency_us is None else latency_us,
        latency_ci=latency_interval(medians, np.random.default_rng(0)),
        speedup=None if emulated else speedup,
        speedup_ci=None if emulated else speedup_ci,
        load_us=statistics.median(start.load_us for start in measured.starts) if measured.starts else None,
        first_run_us=statistics.median(start.first_run_us for start in measured.starts) if measured.starts else None,
        peak_bytes=max((start.peak_bytes for start in measured.starts if start.peak_bytes is not None), default=None),
        file_bytes=comparison.bytes.get(label),
        rounds=round_times(measured),
        states=measured.states,
    )


def _warnings(comparison: Comparison, sources: Sources, *, stale: bool) -> Iterator[str]:
    if stale:
        command = f"amc bench {shlex.quote(str(sources.folder.root))} --device {shlex.quote(comparison.device.name)}"
        yield (
            f"This device timed an earlier network of this run, not the one that ships now: type `{command} --again`."
        )
    yield from fallen_back(comparison.device)
    names = {
        "int8": "The pruned network in int8 was not timed",
        "original_int8": "The original network in int8 was not timed",
        "pruned": "The pruned network was not timed",
    }
    for label, reason in comparison.failed.items():
        yield f"{names.get(label, f'{label} was not timed')}: {reason.rstrip('.')}."


def fallen_back(info: DeviceInfo) -> Iterator[str]:
    """Whether nodes ran on the processor although another provider was asked for."""
    nodes = info.details.get("nodes_per_provider", "")
    counts = {name.strip(): int(number) for name, number in re.findall(r"([^,]*?)\s+(\d{1,9})\s*(?:,|$)", nodes)}
    on_processor = sum(number for name, number in counts.items() if name.lower().startswith("cpu"))
    if on_processor and not info.provider.lower().startswith("cpu"):
        yield (
            f"{on_processor} of {sum(counts.values())} nodes ran on the processor: {info.provider} does not take them "
            f"({nodes})."
        )

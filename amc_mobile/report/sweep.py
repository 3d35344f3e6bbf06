"""A sweep as view data: every run, the means over seeds, and on each device the front that no other mean beats."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from amc_mobile.errors import RunFolderError
from amc_mobile.report import wording as say
from amc_mobile.runs import RunFolder, read_json

INDEX = "sweep.json"


@dataclass(frozen=True, slots=True)
class SweptRun:
    """One complete run. Times are measured, interleaved with the original; `after_us` is on the device's one clock.

    Comparisons were made at different times: `after_us` is the pruned network's share of its own original's time, times
    the median of all originals' times on that device. Accuracies are fractions of test images.
    """

    name: str
    variant: str
    device: str
    budget: str
    agent: str
    seed: int
    accuracy_before: float
    accuracy: float
    accuracy_unrefined: float  # before fine-tuning
    uniform: float | None  # of uniform pruning under the same budget and repair, before fine-tuning
    before_us: float  # as measured beside this run's network
    after_us: float
    speedup: float  # original / pruned, as measured
    speedup_ci: tuple[float, float]  # 95 %
    macs_share: float
    accuracy_int8: float | None
    int8_us: float | None  # on the device's one clock


@dataclass(frozen=True, slots=True)
class Spread:
    """A mean over seeds, and the least and the largest of them."""

    mean: float
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Variant:
    """Runs that differ by their seed only. `front`: no other mean on this device is as accurate and as fast."""

    name: str
    budget: str
    agent: str
    seeds: tuple[int, ...]
    accuracy: Spread
    after_us: Spread
    speedup: Spread
    unrefined: Spread  # accuracy before fine-tuning
    uniform: Spread | None  # of uniform pruning under the same budget and repair, before fine-tuning
    accuracy_int8: Spread | None
    int8_us: Spread | None
    front: bool = False


@dataclass(frozen=True, slots=True)
class SweptDevice:
    """What the runs on one device came to. `drift`: half the range of the originals' times, of their median."""

    name: str
    model: str
    emulated: bool
    accuracy_before: Spread
    before_us: float
    drift: float
    variants: tuple[Variant, ...]  # fastest first
    runs: tuple[SweptRun, ...]
    sentence: str


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A run that is not complete; `problem` is empty if it only was not done yet."""

    name: str
    problem: str
    log: str


@dataclass(frozen=True, slots=True)
class SweepFacts:
    """Everything that the page of a sweep says."""

    schema: int
    model: str
    metric: str
    images: int
    verdict: str
    devices: tuple[SweptDevice, ...]
    unfinished: tuple[Unfinished, ...]
    agents: int


def is_sweep(root: Path) -> bool:
    """Whether the folder holds a sweep."""
    return (root / INDEX).is_file()


def gather_sweep(root: Path) -> SweepFacts:
    """Reads sweep.json and the runs in it. Raises: RunFolderError if there is none, or a file is damaged."""
    if not is_sweep(root):
        raise RunFolderError(f"{root} holds no sweep: `amc sweep` makes one")
    index = read_json(root / INDEX)
    summaries = {run["name"]: _summary(root, run) for run in index["runs"]}
    complete = [run for run in index["runs"] if summaries[run["name"]] is not None]
    by_device: dict[str, list[dict[str, Any]]] = {}
    for run in complete:
        by_device.setdefault(run["device"], []).append(run | {"summary": summaries[run["name"]]})
    devices = tuple(_device(name, runs) for name, runs in by_device.items())
    first = next((summaries[run["name"]] for run in complete), None) or {}
    return SweepFacts(
        schema=1,
        model=index["model"],
        metric=first.get("accuracy_metric", "top1"),
        images=first.get("test_images", 0),
        verdict=" ".join(device.sentence for device in devices) or "No run is complete yet.",
        devices=devices,
        unfinished=tuple(
            Unfinished(run["name"], run["problem"], f"logs/{run['name']}.log")
            for run in index["runs"]
            if summaries[run["name"]] is None
        ),
        agents=len({run["agent"] for run in index["runs"]}),
    )


def _summary(root: Path, run: dict[str, Any]) -> dict[str, Any] | None:
    """What came of a run, None unless it is complete."""
    path = RunFolder(root / run["name"]).summary
    return read_json(path) if run["complete"] and path.is_file() else None


def _device(name: str, entries: Sequence[dict[str, Any]]) -> SweptDevice:
    originals = [entry["summary"]["latency_before_us"] for entry in entries]
    before_us = statistics.median(originals)
    runs = [_run(entry, before_us) for entry in entries]
    variants = _with_front(_variant(group) for group in _grouped(runs))
    device = SweptDevice(
        name=name,
        model=entries[0]["summary"]["device"],
        emulated=any(entry["summary"]["emulated"] for entry in entries),
        accuracy_before=_spread([run.accuracy_before for run in runs]),
        before_us=before_us,
        drift=(max(originals) - min(originals)) / 2 / before_us,
        variants=variants,
        runs=tuple(sorted(runs, key=lambda run: (run.budget, run.agent, run.seed))),
        sentence="",
    )
    return replace(device, sentence=_sentence(device))


def _run(entry: dict[str, Any], reference_us: float) -> SweptRun:
    summary = entry["summary"]
    before_us, after_us = summary["latency_before_us"], summary["latency_after_us"]
    int8_us = summary["latency_after_int8_us"]
    return SweptRun(
        **{key: entry[key] for key in ("name", "variant", "device", "agent", "seed")},
        budget=_budget(entry["limits"]),
        accuracy_before=summary["accuracy_before"],
        accuracy=summary["accuracy_after"],
        accuracy_unrefined=summary["accuracy_before_finetuning"],
        uniform=summary["accuracy_uniform"],
        before_us=before_us,
        after_us=reference_us * after_us / before_us,
        speedup=before_us / after_us,
        speedup_ci=tuple(summary["speedup_ci"] or (0.0, 0.0)),
        macs_share=summary["macs_after"] / summary["macs_before"],
        accuracy_int8=summary["accuracy_after_int8"],
        int8_us=None if int8_us is None else reference_us * int8_us / before_us,
    )


def _budget(limits: dict[str, float | str]) -> str:
    """A budget in words: "50 % latency", "20ms latency, 50 % macs"."""
    amounts = {what: limit if isinstance(limit, str) else say.percent(limit, 0) for what, limit in limits.items()}
    return ", ".join(f"{limit} {what}" for what, limit in amounts.items()) or "least cost"


def _grouped(runs: Iterable[SweptRun]) -> list[list[SweptRun]]:
    groups: dict[str, list[SweptRun]] = {}
    for run in runs:
        groups.setdefault(run.variant, []).append(run)
    return list(groups.values())


def _variant(runs: Sequence[SweptRun]) -> Variant:
    return Variant(
        name=runs[0].variant,
        budget=runs[0].budget,
        agent=runs[0].agent,
        seeds=tuple(run.seed for run in runs),
        accuracy=_spread([run.accuracy for run in runs]),
        after_us=_spread([run.after_us for run in runs]),
        speedup=_spread([run.speedup for run in runs]),
        unrefined=_spread([run.accuracy_unrefined for run in runs]),
        uniform=_spread_of_all([run.uniform for run in runs]),
        accuracy_int8=_spread_of_all([run.accuracy_int8 for run in runs]),
        int8_us=_spread_of_all([run.int8_us for run in runs]),
    )


def _spread(values: Sequence[float]) -> Spread:
    return Spread(statistics.mean(values), min(values), max(values))


def _spread_of_all(values: Sequence[float | None]) -> Spread | None:
    """The spread, None if one is unknown."""
    known = [value for value in values if value is not None]
    return _spread(known) if len(known) == len(values) else None


def _with_front(variants: Iterable[Variant]) -> tuple[Variant, ...]:
    """Fastest first, those marked that no other beats: as accurate and as fast, and better in one of the two."""
    ordered = sorted(variants, key=lambda each: (each.after_us.mean, -each.accuracy.mean))
    found, best = [], float("-inf")
    for each in ordered:
        front = each.accuracy.mean > best
        best = max(best, each.accuracy.mean)
        found.append(replace(each, front=front))
    return tuple(found)


def _sentence(device: SweptDevice) -> str:
    """The device's front in one sentence; an emulated device earns no claim."""
    if device.emulated:
        return f"{device.name} ({device.model}) is emulated: its clock says nothing about a real device."
    front = [each for each in device.variants if each.front]
    ends = [front[0]] if len(front) == 1 else [front[0], front[-1]]
    span = " to ".join(f"{say.percent(each.accuracy.mean)} in {say.ms(each.after_us.mean)}" for each in ends)
    original = f"{say.percent(device.accuracy_before.mean)} in {say.ms(device.before_us)}"
    return f"On {device.name} ({device.model}): {span}; the original has {original}."

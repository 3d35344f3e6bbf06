"""A complete run folder of a small invented network, written through the real dataclasses."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from amc_mobile.config import RunConfig, dump
from amc_mobile.cost import formulas
from amc_mobile.measurements import Comparison, Conditions, DeviceInfo, LayerTime, Measurement, Start
from amc_mobile.runs import RunFolder, append_trial, plain, write_json, write_text
from amc_mobile.search.sensitivity import Curve
from amc_mobile.search.why import Reasons, explain
from amc_mobile.trials import SearchResult, Trial
from amc_mobile.types import Budget, ChannelGroup, Cost, Layer, NetworkGraph, Score, Span, WeightTensor

from .fake_table import fake_table

DEVICE = DeviceInfo(
    name="host",
    model="AMD EPYC 9B14",
    os="Linux 6.1",
    runtime="onnxruntime 1.32.0",
    provider="CPUExecutionProvider",
    precision="fp32",
    threads=1,
    optimisation="all",
    details={"layout": "NCHWc"},
)
CONDITIONS = Conditions(
    time_utc="2025-01-02T03:04:05Z", load=0.02, clock_khz=(2_600_000, 3_100_000), governor="performance"
)


def network(blocks: int = 3, name: str = "tinynet") -> NetworkGraph:
    """A stem, `blocks` of pointwise + depthwise convolutions, a classifier; the input and the classes are pinned."""
    layers, groups, tensors = [], [ChannelGroup(0, "input", 3, (), ("stem",), False, "the network's input")], []
    hw, previous, source = 32, 0, 3

    def add(name: str, kind: Any, out: int, out_group: int, kernel: int, in_group: int, channels: int) -> None:
        spans = (Span(in_group),), (Span(out_group),)
        depthwise = kind == "depthwise"
        layers.append(
            Layer(
                name, kind, channels, out, (kernel, kernel), (1, 1), (1, 1, 1, 1), channels if depthwise else 1,
                (hw, hw), (hw, hw), *spans, f"{name}.weight", f"{name}.bias", f"{name}_in", f"{name}_out",
            )
        )  # fmt: skip
        inner = () if depthwise else spans[0]
        shape = (out, 1 if depthwise else channels, kernel, kernel)
        tensors.append(WeightTensor(f"{name}.weight", shape, (spans[1], inner, (), ())))
        tensors.append(WeightTensor(f"{name}.bias", (out,), (spans[1],)))

    names = ["stem", *(f"features.{block}.conv.0.0" for block in range(blocks))]
    for index, layer in enumerate(names):
        out, group = 32 + 16 * index, len(groups)
        consumers = (names[index + 1],) if index + 1 < len(names) else ("classifier",)
        groups.append(ChannelGroup(group, layer, out, (layer,), consumers, True))
        add(layer, "conv", out, group, 3 if index == 0 else 1, previous, source)
        add(layer.replace("conv.0.0", "conv.1.0") + ".dw", "depthwise", out, group, 3, group, out)
        previous, source = group, out
        hw = max(4, 32 // 2 ** (index // 3 + 1))
    hw = 1
    groups.append(ChannelGroup(len(groups), "classifier", 10, ("classifier",), (), False, "the network's output"))
    add("classifier", "linear", 10, len(groups) - 1, 1, previous, source)
    return NetworkGraph(name, (1, 3, 32, 32), tuple(layers), tuple(groups), tuple(tensors), 4000)


def price(graph: NetworkGraph, kept: tuple[int, ...]) -> Cost:
    macs = formulas.macs(graph, kept)
    return Cost(macs, formulas.params(graph, kept), formulas.size_bytes(graph, kept), 40.0 + macs / 9e3)


def some_trials(graph: NetworkGraph, limit_us: float, episodes: int, seed: int = 1) -> list[Trial]:
    """Opponents, then episodes that get better; all within the limit."""
    rng = np.random.default_rng(seed)
    full = price(graph, graph.full().kept).latency_us or 0.0
    trials: list[Trial] = []

    def add(agent: str, phase: str, ratio: float, top1: float, images: int = 500) -> None:
        kept = tuple(
            max(4, int(g.channels * ratio * rng.uniform(0.8, 1.2)) // 4 * 4) if g.prunable else g.channels
            for g in graph.groups
        )
        cost = replace(price(graph, kept), latency_us=limit_us * (0.97 + 0.03 * np.random.default_rng(kept).random()))
        score = Score(top1, min(1.0, top1 + 0.08), round(2 * (1 - top1), 4), images)
        trials.append(Trial(len(trials), agent, phase, kept, cost, score, round(top1 - 1, 4), 0.1))

    share = math.sqrt(limit_us / full)
    for agent, top1 in (
        ("uniform", 0.90),
        ("shallow", 0.74),
        ("deep", 0.83),
        ("random", 0.81),
        ("sensitivity", 0.955),
        ("greedy", 0.961),
    ):
        add(agent, "opponent", share, top1, 62 if agent == "shallow" else 500)  # it lost its race
    for episode in range(episodes):
        progress = episode / max(1, episodes - 1)
        top1 = min(0.972, 0.55 + 0.42 * progress**0.5 + 0.1 * float(rng.normal()) * (1 - progress))
        add("ddpg", _phase(episode, episodes), share, round(max(0.1, top1), 3))
    return trials


def reasons(graph: NetworkGraph, kept: tuple[int, ...]) -> Reasons:
    """Every second group was measured alone; the widths worth choosing are multiples of 8."""
    prunable = graph.prunable()
    grids = [tuple(range(8, group.channels + 1, 8)) for group in prunable]
    curves = {group.name: Curve(group.name, (8, group.channels), (0.5, 0.0)) for group in prunable[::2]}
    return explain(graph, kept, grids, curves, {"": fake_table(graph, DEVICE)}, "the winner of the search")


def _phase(episode: int, episodes: int) -> str:
    if episode == episodes - 1:
        return "final"
    return "local" if episode % 2 else "warmup" if episode < episodes // 4 else "explore"


PHONE = replace(
    DEVICE,
    name="pixel",
    model="Google Pixel 7",
    os="Android 14 (API 34)",
    details={
        "soc": "Google Tensor G2",
        "build": "zig 0.15.1, glibc, arm64-v8a",
        "cores": "6,7",
        "pinned": "yes",
        "clock": "thread CPU time",
        "throttled": "2",
    },
)


def measurement(label: str, median_us: float, rounds: int = 9, runs: int = 15, seed: int = 0) -> Measurement:
    """Of a device that tells everything: every round is a little warmer, the battery drains."""
    rng = np.random.default_rng(seed)
    values = tuple(
        tuple(float(v) for v in np.round(median_us * level * (1 + 0.02 * rng.gamma(1.0, 1.0, runs)), 2))
        for level in 1 + 0.008 * rng.normal(size=rounds)
    )
    return Measurement(
        label,
        values,
        tuple((2 * median_us,) for _ in range(rounds)),
        (),
        CONDITIONS,
        tuple(Start(10 * median_us, 3 * median_us, 50_000_000 + 1000 * number) for number in range(rounds)),
        tuple(
            replace(CONDITIONS, temperature_celsius=30.0 + number, battery_percent=80.0 - number // 4)
            for number in range(rounds)
        ),
    )


def comparison(
    before_us: float,
    after_us: float,
    predicted_us: float,
    device: DeviceInfo = DEVICE,
    graph: NetworkGraph | None = None,
) -> Comparison:
    """With int8, and with times of the layers of `graph`: everything that a comparison can hold."""
    original, pruned = measurement("original", before_us, seed=3), measurement("pruned", after_us, seed=4)
    original_int8, int8 = measurement("original_int8", before_us / 2, seed=6), measurement("int8", after_us / 2, seed=5)
    speedup, alone, speedup_int8 = (original.latency_us() / each.latency_us() for each in (pruned, original_int8, int8))
    names = [] if graph is None else [*(layer.name for layer in graph.layers), ""]
    return Comparison(
        device=device,
        original=original,
        pruned=pruned,
        latency_before_us=original.latency_us(),
        latency_after_us=pruned.latency_us(),
        speedup=speedup,
        speedup_ci=(speedup * 0.985, speedup * 1.015),
        predicted_us=predicted_us,
        prediction_error=predicted_us / pruned.latency_us() - 1,
        int8=int8,
        latency_int8_us=int8.latency_us(),
        speedup_int8=speedup_int8,
        speedup_int8_ci=(speedup_int8 * 0.98, speedup_int8 * 1.02),
        original_int8=original_int8,
        latency_original_int8_us=original_int8.latency_us(),
        speedup_original_int8=alone,
        speedup_original_int8_ci=(alone * 0.98, alone * 1.02),
        bytes={"original": 412_345, "pruned": 151_002, "original_int8": 110_001, "int8": 45_678},
        layers=tuple(LayerTime(name, before_us / len(names), after_us / len(names)) for name in names),
    )


def write_run(folder: RunFolder, graph: NetworkGraph, *, episodes: int = 16, device: DeviceInfo = DEVICE) -> RunFolder:
    """Every file of a finished run at half the latency."""
    folder.create()
    full_us = price(graph, graph.full().kept).latency_us or 0.0
    trials = some_trials(graph, full_us / 2, episodes)
    best = max(trials, key=lambda trial: trial.reward)
    opponents = tuple(trial for trial in trials if trial.phase == "opponent" and trial is not best)
    write_text(folder.config, dump(RunConfig(seed=7)))
    write_json(folder.graph, {"network": plain(graph), "model_sha256": "ab" * 32})
    fake_table(graph, device).save(folder.table)
    for trial in trials:
        append_trial(folder.trials, trial)
    write_json(folder.search, SearchResult(Budget("latency_us", full_us / 2), best, opponents, episodes))
    write_json(folder.policy, {"kept": best.kept, "channels": [], "groups": []})
    write_json(folder.why, reasons(graph, best.kept))
    scores = {"original": (0.989, 1.0), "pruned": (0.962, 0.999), "finetuned": (0.9867, 1.0), "uniform": (0.951, 0.998)}
    scores |= {"original_int8": (0.988, 1.0), "int8": (0.984, 1.0), "uniform_int8": (0.949, 0.998)}
    accuracy = {name: {"top1": top1, "top5": top5} for name, (top1, top5) in scores.items()}
    write_json(folder.int8, {"schema": 1, "method": "mse", "images": 100, "weight_bits": 7, "made": True, "failed": ""})
    write_json(folder.accuracy, {"metric": "top1", "test_images": 450, "search_images": 500, **accuracy})
    predicted_us = best.cost.latency_us or 0.0
    write_json(folder.comparison, comparison(full_us * 1.01, predicted_us * 0.98, predicted_us, device, graph))
    write_json(
        folder.summary,
        {
            "bytes_before": 412_345,
            "bytes_after": 151_002,
            "seconds": {"profile": 41.2, "search": 95.3, "finetune": 20.0, "bench": 12.9},
            "commands": ["amc demo --out runs/demo", "amc report runs/demo"],
            "versions": {"amc-mobile": "0.1.0", "onnxruntime": "1.32.0"},
        },
    )
    return folder

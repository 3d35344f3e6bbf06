"""The table of RESULTS.md about transfer: a pruned backbone on other images. Called by collect.py."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from engine_tables import section

_NAMES = {
    "pruned": "AMC, 50 % MACs",
    "original": "original",
    "uniform": "uniform, 50 % MACs",
    "scratch": "AMC's shape, random weights",
}


def transfer_results(raw: Mapping[str, Any]) -> str:
    """Markdown for the raw file about transfer, if it is there."""
    return _transfer(raw["transfer"]) if "transfer" in raw else ""


def _transfer(raw: Mapping[str, Any]) -> str:
    head = (
        "training images",
        "network",
        "top-1 (95 %)",
        "over the seeds",
        "AMC minus it (95 %)",
        "latency, ms",
        "speed-up",
    )
    rows = [_row(size, each) for size in raw["rows"] for each in size["contenders"]]
    first = raw["rows"][0]
    text = section("Transfer: ResNet-20, pruned on CIFAR-10, to Fashion-MNIST", raw["command"], [head, *rows])
    return text + (
        f"\n{len(first['seeds'])} seeds, {first['test_images']:,} test images, which all networks answered. "
        "Intervals are over images and seeds, those of differences paired. Every network got a new classifier and the "
        f"same training ({', '.join(_training(size) for size in raw['rows'])}). On CIFAR-10 the original has "
        f"{_source(raw, 'original')} top-1, AMC's network {_source(raw, 'pruned')} before and "
        f"{_source(raw, 'finetuned')} after fine-tuning. {raw['machine']}, {raw['date']}, commit {raw['commit']}, "
        f"{raw['seconds'] / 60:.0f} minutes.{raw.get('note', '')}\n"
    )


def _row(size: Mapping[str, Any], each: Mapping[str, Any]) -> tuple[str, ...]:
    gaps = {gap["against"]: gap for gap in size["gaps"]}
    gap, timed = gaps.get(each["name"]), each["latency_us"] is not None
    spread = statistics.stdev(each["top1"]) if len(each["top1"]) > 1 else 0.0
    return (
        f"{size['train_images']:,}",
        _NAMES[each["name"]],
        f"{statistics.fmean(each['top1']):.1%} ({each['top1_ci'][0]:.1%} to {each['top1_ci'][1]:.1%})",
        f"± {spread:.1%}",
        "" if gap is None else _points(statistics.fmean(gap["differences"]), *gap["interval"]),
        f"{each['latency_us'] / 1000:.2f}" if timed else "–",
        f"{each['speedup']:.2f}" if each["speedup"] is not None else "–",
    )


def _points(mean: float, low: float, high: float) -> str:
    return f"{100 * mean:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def _training(size: Mapping[str, Any]) -> str:
    return f"{size['epochs']} epochs of {size['train_images']:,} images"


def _source(raw: Mapping[str, Any], which: str) -> str:
    found = (raw["source"] or {}).get(which)
    return "–" if found is None else f"{found['top1']:.1%}"

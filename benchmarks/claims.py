"""The first table of RESULTS.md: what He et al. 2018 claim, and what was found here. Called by collect.py.

Every figure found here comes from a raw file; the paper's are typed in, as published. A claim whose raw file is missing
is not shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from network_results import network_name

Row = tuple[str, str, str]

_RULES = ("uniform", "shallow", "deep", "sensitivity")
_PAPER_RULES = {
    "resnet56": ("92.8 → 90.2 → 91.9", "uniform 87.5, deep 88.4"),
    "plain20": ("90.5 → 86.4 → 90.2", "uniform 84.0, shallow 83.2, deep 79.6"),
    "resnet20": ("–", "–"),
}


def claims(raw: Mapping[str, Any]) -> list[Row]:
    """Lines (claim, paper, here) for the raw files that are there, by their names."""
    makers = {
        "rules": _rules,
        "protocols": _protocols,
        "latency_curve": _latency,
        "latency_curve_refined": _latency_again,
        "transfer": _transfer,
        "search_cost": _cost,
    }
    return [row for name, maker in makers.items() if name in raw for row in maker(raw[name])]


def _rules(raw: Mapping[str, Any]) -> Iterator[Row]:
    cells = {(row["network"], row["rule"]): row for row in raw["table"]}
    for network, (paper, paper_rules) in _PAPER_RULES.items():
        ours = cells.get((network, "amc"))
        if ours is None:
            continue
        rows = [row for row in raw["rows"] if row["network"] == network and row["rule"] == "amc"]
        before, after = (ours[when][0] for when in ("before", "after"))
        lost = [sum(row[f"loss_{when}"][0] for row in rows) / len(rows) for when in ("before", "after")]
        yield (
            f"{network}, CIFAR-10, half the MACs: original → AMC → fine-tuned",
            paper,
            f"{100 * (before + lost[0]):.1f} → {100 * before:.1f} → {100 * after:.1f} "
            f"(lost {100 * lost[0]:.2f}, then {100 * lost[1]:.2f})",
        )
        there = [cells[network, rule] for rule in _RULES if (network, rule) in cells]
        yield (
            f"{network}: the rules, before fine-tuning",
            paper_rules,
            ", ".join(f"{row['rule']} {100 * row['before'][0]:.1f}" for row in there),
        )
        yield (
            f"{network}: the rules, after",
            "–",
            ", ".join(f"{row['rule']} {100 * row['after'][0]:.1f}" for row in there),
        )


def _protocols(raw: Mapping[str, Any]) -> Iterator[Row]:
    for row in raw["rows"]:
        low, high = row["loss"][1:]
        found = (
            f"{row['params_share']:.1%} of the parameters, 1/{1 / row['params_share']:.2f}; "
            f"{100 * row['loss'][0]:+.2f} points lost after {row['epochs']} epochs "
            f"({100 * low:+.2f} to {100 * high:+.2f})"
        )
        if row["what"] == "guaranteed":
            yield (
                f"accuracy-guaranteed, ResNet-56, {row['asked']:.0%} allowed on the search images",
                "ResNet-50, CIFAR-10: 60 % of the parameters, no loss",
                found,
            )
        else:
            yield (
                f"fine-grained, ResNet-56, density {row['asked']:.0%}",
                "ResNet-50, ImageNet: density 20 % without loss",
                found,
            )


def _latency(raw: Mapping[str, Any]) -> Iterator[Row]:
    points = raw["points"]
    half = [each for each in points if each["network"] == "mobilenet_v1" and each["share"] == 0.5]
    for each in half:
        low, high = each["speedup_interval"]
        yield (
            "MobileNet-V1 at half of its latency, measured",
            "1.95x on a Pixel 1",
            f"{each['speedup']:.2f}x ({low:.2f} to {high:.2f}), width 0.75, on the host's CPU, one thread; top-1 "
            f"{each['original']:.1%} → {each['amc']:.1%}, not fine-tuned",
        )
    yield from _leads(points, "")


def _latency_again(raw: Mapping[str, Any]) -> Iterator[Row]:
    """The second series of the same, whose searches ended with a refinement."""
    yield from _leads(raw["points"], ", searched again with the refinement")


def _leads(points: Sequence[Mapping[str, Any]], how: str) -> Iterator[Row]:
    for network in dict.fromkeys(each["network"] for each in points):
        own = [each for each in points if each["network"] == network]
        ahead = [each["ahead"] for each in own]
        yield (
            f"{network_name(network)} under {len(own)} latency budgets{how}: AMC's lead over uniform pruning",
            "–",
            f"{100 * min(each[0] for each in ahead):+.1f} to {100 * max(each[0] for each in ahead):+.1f} points; "
            f"surely above at {sum(each[1] > 0 for each in ahead)} budgets, surely below at "
            f"{sum(each[2] < 0 for each in ahead)}",
        )
    off = [each["off"] for each in points]
    yield (
        "those budgets on the clock",
        "–",
        f"measured {100 * min(off):+.1f} to {100 * max(off):+.1f} % of the budget away",
    )


def _transfer(raw: Mapping[str, Any]) -> Iterator[Row]:
    for size in raw["rows"]:
        for gap in size["gaps"]:
            mean, (low, high) = sum(gap["differences"]) / len(gap["differences"]), gap["interval"]
            yield (
                f"transfer of the pruned backbone, {size['train_images']:,} images: AMC less {gap['against']}",
                "VOC detection: AMC 68.8, hand-made 66.9, dense 68.7 AP50" if gap["against"] == "original" else "–",
                f"{100 * mean:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})",
            )


def _cost(raw: Mapping[str, Any]) -> Iterator[Row]:
    for row in raw["rows"]:
        yield (
            f"a search of {row['network']}",
            row["paper"],
            f"{row['wall_s'] / 60:.1f} minutes on {raw['machine']}; {row['cpu_s']:.0f} CPU-seconds, {row['episodes']} "
            "episodes",
        )

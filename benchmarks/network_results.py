"""The tables of RESULTS.md about pruned networks: rules, protocols, accuracy and latency, int8, what a search costs.

Called by collect.py. Each table comes from one file in raw/, and says which command made it, when and where.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine_tables import section

_NAMES = {
    "amc": "**AMC** (`--agent auto`)",
    "unrefined": "the same, not refined",
    "ddpg": "AMC's DDPG alone, 400 episodes",
    "original": "not pruned",
}


def network_results(raw: Mapping[str, Any]) -> str:
    """Markdown for those of the raw files that are there, by their names."""
    makers = {
        "rules": rules,
        "protocols": protocols,
        "latency_curve": latency_curve,
        "latency_curve_refined": lambda found: latency_curve(found, ", searches refined"),
        "accuracy_against_clock": against_clock,
        "int8_accuracy": int8_accuracy,
        "search_cost": search_cost,
    }
    return "\n".join(maker(raw[name]) for name, maker in makers.items() if name in raw)


def network_name(config: str) -> str:
    """The network of a published ImageNet configuration."""
    return {"mobilenet_v1": "mobilenet_v1_0.75"}.get(config, config)


def rules(raw: Mapping[str, Any]) -> str:
    """Hand-made rules beside AMC, before and after fine-tuning: means over the seeds."""
    head = ("network", "rule", "MACs", "parameters", "before", "after", "AMC ahead before (95 %)", "after (95 %)")
    rows = [
        (
            row["network"],
            _NAMES.get(row["rule"], row["rule"]),
            *(f"{row[name][0]:.1%}" for name in ("macs_share", "params_share")),
            *(f"{row[name][0]:.2%} ± {row[name][1]:.2%}" for name in ("before", "after")),
            *(_interval(row[f"amc_ahead_{name}"]) for name in ("before", "after")),
        )
        for row in raw["table"]
    ]
    seeds, epochs = max(row["seeds"] for row in raw["table"]), raw["epochs"]
    machines = "; ".join(dict.fromkeys(row["machine"] for row in raw["rows"]))
    return (
        section("Hand-made rules beside AMC, CIFAR-10, half the MACs (top-1)", raw["command"], [head, *rows])
        + f"\n{_made(raw)} Rows were computed on: {machines}. "
        f"Mean ± standard deviation over {seeds} seeds, which draw the images of search and "
        f"calibration, the agents' chance and the order of training; {epochs} epochs of fine-tuning. "
        f"Intervals are over seeds and the {raw['rows'][0]['test_images']:,} test images, paired. "
        f"{raw.get('note', '')}\n"
    )


def protocols(raw: Mapping[str, Any]) -> str:
    """Accuracy-guaranteed and fine-grained searches."""
    head = (
        "search",
        "asked",
        "parameters that stay",
        "MACs",
        "top-1 before",
        "pruned",
        "uniform",
        "epochs",
        "fine-tuned",
        "loss (95 %)",
        "commit",
    )
    asked = {"guaranteed": "at most {:.0%} lost on the search images", "sparse": "density {:.0%}"}
    rows = [
        (
            {"guaranteed": "accuracy-guaranteed", "sparse": "fine-grained"}[row["what"]],
            asked[row["what"]].format(row["asked"]),
            f"{row['params_share']:.1%} (1/{1 / row['params_share']:.2f})",
            f"{row['macs_share']:.1%}",
            *(f"{row[name]:.2%}" for name in ("original", "before")),
            "–" if row.get("uniform") is None else f"{row['uniform']:.2%}",
            str(row["epochs"]),
            f"{row['after']:.2%}",
            _interval(row["loss"]),
            row["commit"] + (f": {row['note']}" if row["note"] else ""),
        )
        for row in raw["rows"]
    ]
    return (
        section("Accuracy-guaranteed and fine-grained, ResNet-56, CIFAR-10", raw["command"], [head, *rows])
        + f"\n{_made(raw)} The loss is after fine-tuning, against the original, which is not; intervals are over the "
        f"{raw['rows'][0]['test_images']:,} test images, paired. Uniform: pruned to the same budget at one ratio and "
        "repaired alike.\n"
    )


def latency_curve(raw: Mapping[str, Any], how: str = "") -> str:
    """Accuracy under latency budgets, and the clock's word on them."""
    head = (
        *("network", "budget", "top-1", "uniform", "AMC ahead (95 %)", "MACs"),
        *("latency, ms", "speed-up (95 %)", "measured / budget - 1", "search, s", "evaluations", "commit"),
    )
    rows = [
        (
            network_name(each["network"]),
            f"{each['share']:.0%}",
            f"{each['amc']:.1%} ({_ends(each['amc_interval'])})",
            f"{each['uniform']:.1%}",
            _interval(each["ahead"]),
            f"{each['macs_share']:.0%}",
            f"{each['latency_before_us'] / 1000:.2f} → {each['latency_after_us'] / 1000:.2f}",
            f"{each['speedup']:.2f} ({each['speedup_interval'][0]:.2f}–{each['speedup_interval'][1]:.2f})",
            f"{each['off']:+.1%}",
            f"{each['search_s']:.0f}",
            str(each["evaluations"]),
            each["commit"] + (f": {each['note']}" if each["note"] else ""),
        )
        for each in sorted(raw["points"], key=lambda each: (each["network"], -each["share"]))
    ]
    return (
        section(f"Accuracy under a latency budget, no fine-tuning, ImageNet images{how}", raw["command"], [head, *rows])
        + f"\n{_made(raw)} One ONNX Runtime thread, fp32; {raw['points'][0]['test_images']} test images. "
        "Intervals of a difference are of the same images. Times were measured on: "
        f"{'; '.join(dict.fromkeys(each['machine'] for each in raw['points']))}; the seconds of a search are wall time "
        "beside other work.\n"
    )


def against_clock(raw: Mapping[str, Any]) -> str:
    """Every way to make one network faster, in float and in int8, timed in one session."""
    head = ("method", "budget", "precision", "latency, ms", "speed-up (95 %)", "top-1 (95 %)")
    rows = [
        (
            each["method"],
            each["label"] or "–",
            each["precision"],
            f"{each['latency_us'] / 1000:.2f}",
            f"{each['speedup']:.2f} ({each['speedup_ci'][0]:.2f}–{each['speedup_ci'][1]:.2f})",
            f"{each['accuracy']:.1%} ({_ends(each['accuracy_ci'])})",
        )
        for each in raw["points"]
    ]
    return (
        section(f"Accuracy against the clock, {raw['model']}", raw["command"], [head, *rows])
        + "\n![Top-1 over measured latency, a line for each method and precision](raw/accuracy_against_clock.png)\n"
        f"\n{_made(raw)} {raw['on']}; {raw['test_images']:,} test images; {raw['finetune_epochs']} epochs of "
        "fine-tuning. All networks were timed interleaved, in one session; AMC under MACs has at most the MACs of "
        "the uniform network of its line.\n"
    )


def int8_accuracy(raw: Mapping[str, Any]) -> str:
    """Float beside int8 by each method that finds ranges, as shipped: seven-bit weights, corrected biases."""
    networks: Mapping[str, Any] = raw["networks"]
    methods = list(dict.fromkeys(row["method"] for found in networks.values() for row in found["int8"]))
    head = ("network", "images", "float", *methods, "minmax, biases not corrected", "rank correlation with float")
    rows = []
    for name, found in networks.items():
        top1 = {(row["method"], row["weight_bits"], row["corrected"]): row["top1"] for row in found["int8"]}
        ranking = found["ranking"].get("spearman", {}).get("kl")
        rows.append(
            (
                name,
                f"{found['test_images']:,}",
                f"{found['float']['top1']:.2%}",
                *(f"{top1[method, 7, True]:.2%}" for method in methods),
                f"{top1['minmax', 7, False]:.2%}",
                "–" if ranking is None else f"{ranking:.3f}",
            )
        )
    return (
        section("Networks in int8 (top-1)", raw["command"], [head, *rows])
        + f"\n{_made(raw)} Static QDQ, weights per channel in seven bits, {raw['calibration_images']} calibration "
        "images, no training. The last column: how alike divergences of random pruned networks in float and in int8 "
        "order them (Spearman).\n"
    )


def search_cost(raw: Mapping[str, Any]) -> str:
    """Wall seconds, CPU-seconds and evaluations beside the published."""
    head = ("network", "wall, min", "CPU-s", "evaluated", "refreshed", "stages, s", "shared by searches, s", "paper")
    own = ("calibrate", "search", "refine")
    rows = [
        (
            each["network"],
            f"{each['wall_s'] / 60:.1f}",
            f"{each['cpu_s']:.0f}",
            str(each["evaluations"]),
            str(each["refreshed"]),
            ", ".join(f"{name} {each['stages'][name]['wall_s']:.0f}" for name in own),
            ", ".join(f"{name} {one['wall_s']:.0f}" for name, one in each["stages"].items() if name not in own),
            each["paper"],
        )
        for each in raw["rows"]
    ]
    loads = ", ".join(f"{each['load_before']:.1f}" for each in raw["rows"])
    return (
        section("What a search costs", raw["command"], [head, *rows])
        + f"\n{_made(raw)} One run each; the machine's load before: {loads}.\n"
    )


def _made(raw: Mapping[str, Any]) -> str:
    return f"{raw['date']}, commit {raw['commit']}, {raw['machine']}."


def _interval(values: Sequence[float] | None) -> str:
    return "–" if values is None else f"{values[0]:+.2%} ({values[1]:+.2%} to {values[2]:+.2%})"


def _ends(values: Sequence[float]) -> str:
    return f"{values[0]:.1%}–{values[1]:.1%}"

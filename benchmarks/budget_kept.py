"""Does a latency budget hold on the clock? Three searches of MobileNet-V2, at 60, 50 and 40 % of its latency.

    python benchmarks/budget_kept.py --data DIR [--json] [--shares 0.6,0.5,0.4] [--work DIR]

Each is `amc search` on real images and the table measured first, with the loop closed (the chosen network is timed, the
table repaired if it was off). Then original and chosen network are timed against each other anew, interleaved. What
counts is measured / budget - 1, the budget being the share times the original's time of that very comparison.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from amc_mobile import config as configuration
from amc_mobile.cli.pipeline import Pipeline, open_run
from amc_mobile.cli.session import Session
from amc_mobile.measurements import TimingProtocol
from amc_mobile.profile.compare import compare
from amc_mobile.profile.variants import Variants
from amc_mobile.runs import RunFolder, read_json, write_json
from amc_mobile.types import Policy

HERE = Path(__file__).parent
CONFIG = HERE.parent / "configs" / "mobilenet_v2_imagenet.toml"
STAGES = ("train", "graph", "profile", "calibrate", "search", "refine", "settle")


def main() -> None:
    """Runs the searches that are not finished yet, times what they chose, and prints how far it is from the budget."""
    arguments = _arguments()
    rows: list[dict[str, Any]] = []
    table: Path | None = None
    for share in map(float, arguments.shares.split(",")):
        config = settings(arguments, share, table)
        Pipeline(open_run(config), config).run(STAGES)
        table = table or RunFolder(config.out).table
        rows.append(judge(config, share))
        write_json(arguments.out, {"rows": rows, "largest": max(abs(row["off"]) for row in rows)})
    if arguments.json:
        print(json.dumps({"rows": rows, "largest": max(abs(row["off"]) for row in rows)}))
    else:
        print("\n".join(map(in_words, rows)))


def settings(arguments: argparse.Namespace, share: float, table: Path | None) -> configuration.RunConfig:
    """The published configuration with another budget and a shorter search."""
    data = arguments.data
    base = configuration.load(CONFIG).model_dump()
    base["out"] = arguments.work / f"latency-{share:g}"
    base["model"]["weights"] = data / Path(base["model"]["weights"]).name
    for name in ("name", "test"):
        if base["data"][name] is not None:
            base["data"][name] = str(data / Path(base["data"][name]).name)
    base["budget"] = {"latency": share}
    base["search"] |= {"episodes": arguments.episodes, "evaluations": arguments.evaluations, "sensitivity_points": 1}
    base["profile"]["table"] = table
    return configuration.RunConfig.model_validate(base)


def judge(config: configuration.RunConfig, share: float) -> dict[str, Any]:
    """The chosen network on the clock beside the original."""
    folder = RunFolder(config.out)
    session = Session(folder, config)
    best = read_json(folder.search)["best"]
    variants = Variants(session.traced, session.device.info())
    whole = variants.model(session.traced.network.full())
    chosen = variants.model(Policy(tuple(best["kept"])))
    found = compare(session.device, whole, chosen, TimingProtocol(rounds=9, min_time_s=0.7, seed=1), None)
    return {
        "share": share,
        "original_us": found.latency_before_us,
        "measured_us": found.latency_after_us,
        "budget_us": share * found.latency_before_us,
        "off": found.latency_after_us / (share * found.latency_before_us) - 1.0,
        "price_us": best["cost"]["latency_us"],
        "top1_on_search_images": best["score"]["top1"],
        "agent": best["agent"],
        "checks": read_json(folder.settled)["checks"],
    }


def in_words(row: dict[str, Any]) -> str:
    """One row for people."""
    repairs = sum(check["repaired"] for check in row["checks"])
    return (
        f"{row['share']:.0%} of the latency: {row['budget_us'] / 1000:.3f} ms allowed, {row['measured_us'] / 1000:.3f} "
        f"ms measured ({row['off']:+.1%}), the table was repaired {repairs} time(s)"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--shares", default="0.6,0.5,0.4")
    parser.add_argument("--episodes", type=int, default=30)
    parser.add_argument("--evaluations", type=int, default=100)
    parser.add_argument("--work", type=Path, default=Path("runs/budget_kept"))
    parser.add_argument("--out", type=Path, default=HERE / "raw" / "budget_kept.json")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

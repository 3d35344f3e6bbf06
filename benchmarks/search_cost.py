"""What a search costs: wall seconds, CPU-seconds and evaluated networks of an `amc run` up to its policy.

    python benchmarks/search_cost.py --data DIR [--networks resnet56,mobilenet_v2] [--work DIR] [--json]

The published configurations, from the exported graph to the refined policy: the calibration for the repair, the
search, the refinement; and, on a latency budget, the table, which every search of that network on that device shares.
He et al. 2018 give about 1 hour for CIFAR-10 and 4 GPU-hours for ImageNet. Run it on a quiet machine:
the load before it is written down.

Nothing is resumed: a network whose folder in --work exists is refused. `amc run`, given the same configuration and
--out, goes on from there. The raw result is benchmarks/raw/search_cost.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

from provenance import provenance

from amc_mobile import config as configuration
from amc_mobile.cli.pipeline import Pipeline, open_run
from amc_mobile.cli.settings import override, with_data_folder
from amc_mobile.runs import RunFolder, read_json, write_json

HERE = Path(__file__).parent
CONFIGS = {"resnet56": "resnet56_cifar10.toml", "mobilenet_v2": "mobilenet_v2_imagenet.toml"}
PAPER = {"resnet56": "about 1 hour (CIFAR-10)", "mobilenet_v2": "4 GPU-hours (ImageNet)"}
ONCE = ("train", "graph", "profile")  # shared by every search of a network
OWN = ("calibrate", "search", "refine")


def cost(network: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Searches once, from nothing, and says what every stage took."""
    config = override(
        with_data_folder(configuration.load(HERE.parent / "configs" / CONFIGS[network]), arguments.data.resolve()),
        {"out": arguments.work / network},
    )
    if config.out.exists():
        sys.exit(f"{config.out} exists; a search that is resumed costs less: remove it, or name another --work")
    load = os.getloadavg()[0]
    pipeline = Pipeline(open_run(config), config)
    stages = {stage: _timed(pipeline, stage) for stage in (*ONCE, *OWN)}
    folder = RunFolder(config.out)
    own = [stages[stage] for stage in OWN]
    return {
        "network": network,
        "paper": PAPER[network],
        "load_before": load,
        "stages": stages,
        "wall_s": sum(stage["wall_s"] for stage in own),
        "cpu_s": sum(stage["cpu_s"] for stage in own),
        "episodes": config.search.episodes,
        "evaluations": read_json(folder.search)["evaluations"],
        "refreshed": read_json(folder.refined)["evaluations"],
    }


def _timed(pipeline: Pipeline, stage: str) -> dict[str, float]:
    started, cpu = time.monotonic(), _cpu_s()
    pipeline.run((stage,))
    return {"wall_s": time.monotonic() - started, "cpu_s": _cpu_s() - cpu}


def _cpu_s() -> float:
    """CPU-seconds of this process and of those that it waited for."""
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def in_words(row: dict[str, Any]) -> str:
    """One search for people."""
    stages = ", ".join(f"{name} {stage['wall_s']:.0f} s" for name, stage in row["stages"].items())
    return (
        f"{row['network']}: {row['wall_s'] / 60:.1f} minutes, {row['cpu_s']:.0f} CPU-seconds, {row['evaluations']} "
        f"evaluations and {row['refreshed']} refreshed networks ({stages}); paper: {row['paper']}"
    )


def main() -> None:
    """Searches, prints and writes down."""
    arguments = _arguments()
    rows: list[dict[str, Any]] = []
    found: dict[str, Any] = {}
    for network in arguments.networks.split(","):
        rows.append(cost(network, arguments))
        found = {**provenance(), "rows": rows}
        write_json(arguments.raw, found)
    print(json.dumps(found) if arguments.json else "\n".join(map(in_words, rows)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with weights and images")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--networks", default="resnet56,mobilenet_v2", help="default: %(default)s")
    parser.add_argument("--work", type=Path, default=Path("runs/search_cost"))
    parser.add_argument("--raw", type=Path, default=HERE / "raw" / "search_cost.json")
    arguments = parser.parse_args()
    unknown = set(arguments.networks.split(",")) - set(CONFIGS)
    if unknown:
        parser.error(f"--networks: there is no {', '.join(sorted(unknown))}; choose from {', '.join(CONFIGS)}")
    return arguments


if __name__ == "__main__":
    main()

"""How wrong latency tables are on networks that they were not made from, on this machine's processor.

    python benchmarks/table_error.py [--json] [--networks mobilenet_v2,...] [--threads 1,2] [--work DIR]
        [--carriers N] [--rounds N]

For each network and number of threads a table is measured as `amc profile` does, then 24 held-out networks
(held_out.py) are timed in two interleaved rounds and compared with the table's word. Errors are predicted /
measured - 1, as fractions. Weights are random: they do not change the time. It takes about an hour, and resumes:
finished measurements lie in --work. Rows may be measured one by one: raw/table_error.json keeps the others.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from held_out import held_out

from amc_mobile.cost.table import LatencyTable
from amc_mobile.device.host import HostDevice
from amc_mobile.export.to_onnx import export
from amc_mobile.graph.trace import trace
from amc_mobile.graph.traced import TracedGraph
from amc_mobile.models.zoo import find, load_module
from amc_mobile.profile.holdout import HeldOut, hold_out
from amc_mobile.profile.observed import observe
from amc_mobile.profile.profiler import profile
from amc_mobile.profile.variants import Variants
from amc_mobile.runs import plain, read_json, write_json
from amc_mobile.sections.profile import ProfileConfig
from amc_mobile.types import NetworkGraph

HERE = Path(__file__).parent
NETWORKS = {
    "mobilenet_v1": 224,
    "mobilenet_v2": 224,
    "resnet18": 224,
    "vgg16_bn": 112,
    "resnet56": 32,
}  # and the side of their images
HELD_OUT_ROUNDS = 2  # each of the 24 is timed so often
GRID = {"seed": 0, "min_keep_ratio": 0.2, "round_to": 8}


def main() -> None:
    """Measures what is not measured yet, writes the raw results and prints the table of errors."""
    arguments = _arguments()
    arguments.work.mkdir(parents=True, exist_ok=True)
    results: list[dict[str, Any]] = []
    others = kept(arguments.out)
    for name in arguments.networks.split(","):
        traced = traced_network(name, NETWORKS[name])
        for threads in map(int, arguments.threads.split(",")):
            results.append(one(traced, name, threads, arguments))
            everything = list({**others, **{key_of(result): result for result in results}}.values())
            everything.sort(key=key_of)
            write_json(arguments.out, {**summary(everything), "raw": [result["raw"] for result in everything]})
            print(in_words(results[-1]["row"]), file=sys.stderr, flush=True)
    found = summary(results)
    print(json.dumps(found) if arguments.json else "\n".join(map(in_words, [*found["rows"], found["pooled"]])))


def kept(path: Path) -> dict[tuple[int, int], dict[str, Any]]:
    """The rows that an earlier run left in the raw file, by network and threads."""
    if not path.is_file():
        return {}
    stored = read_json(path)
    rows = [{"row": row, "raw": raw} for row, raw in zip(stored["rows"], stored["raw"], strict=True)]
    return {key_of(row): row for row in rows}


def key_of(result: dict[str, Any]) -> tuple[int, int]:
    """Which row it is, in the order of the table."""
    return list(NETWORKS).index(result["row"]["network"]), result["row"]["threads"]


def traced_network(name: str, side: int) -> TracedGraph:
    """The network with random weights for images of side x side."""
    entry = find(name)
    model = export(load_module(entry, None), (entry.input_shape[0], side, side))
    return trace(model, name)


def one(traced: TracedGraph, name: str, threads: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """The table of one network and number of threads, and how wrong it is."""
    key, device, work = f"{name}-t{threads}", HostDevice(threads), arguments.work
    config = ProfileConfig(carriers=arguments.carriers, rounds=arguments.rounds)
    stem = f"{key}-{config.carriers}x{config.rounds}x{config.turns}"  # what was measured otherwise is not taken for it
    path, seconds = work / f"{stem}.json", work / f"{stem}.seconds"
    partial, started = work / f"{stem}.partial", time.perf_counter()
    if not path.is_file():
        table = profile(traced, device, config, **GRID, progress=_tell(f"{key} profile"), checkpoint=partial)
        with seconds.open("a") as spent:  # several lines if it was interrupted
            print(time.perf_counter() - started, file=spent)
        table.save(path)
    table = LatencyTable.load(path)
    policies = held_out(traced.network, table, seed=1)
    found = hold_out(
        Variants(traced, device.info()),
        device,
        table,
        policies,
        config.model_copy(update={"rounds": min(HELD_OUT_ROUNDS, arguments.rounds)}),
        seed=1,
        progress=_tell(f"{key} held out"),
        checkpoint=work / f"{stem}.held_out",
    )
    own = found.validation
    row = {
        "network": name,
        "threads": threads,
        "carriers": len(table.evidence["networks"]) - 2,
        "rounds": table.evidence["rounds_wanted"],
        "turns": config.turns,
        "mape": own.mape,
        "max": own.max_error,
        "bias": own.bias,
        "within5": own.within_5,
        "noise_floor": own.noise_floor,
        "macs_affine_mape": own.macs_affine_mape,
        "profile_seconds": sum(map(float, seconds.read_text().split())),
        "leave_one_out_mape": table.validation.mape,
        "price_mape": found.price_mape,
        "drift": found.drift - 1.0,
        "shares": shares(traced.network, table),
    }
    return {"row": row, "raw": _raw(row, found, table)}


def shares(network: NetworkGraph, table: LatencyTable) -> dict[str, dict[str, float]]:
    """Share of the stem, the depthwise layers and the classifier in the full network: by the table, and in place.

    In place is what the runtime's profiler said of the full network in the table's own campaign, less what it adds to
    every node by the table's account: on another day the device may be in another mood, and shares are others.
    """
    seen, added_us = observe(table.evidence)[0], table.evidence["law"]["profiler_us_per_node"]
    full = seen.policies.index(network.full())
    in_place = {
        layer.name: sum(max(us[full] - added_us, 0.0) for key, us in seen.rows_us.items() if key.layer == layer.name)
        for layer in network.layers
    }
    priced = {layer.name: table.layer_us(layer.name, layer.in_channels, layer.out_channels) for layer in network.layers}
    parts = {
        "stem": [network.layers[0].name],
        "depthwise": [layer.name for layer in network.layers if layer.kind == "depthwise"],
        "classifier": [network.layers[-1].name],
    }
    return {
        part: {
            "table": sum(priced[name] for name in names) / sum(priced.values()),
            "in_place": float(sum(in_place[name] for name in names) / sum(in_place.values())),
        }
        for part, names in parts.items()
        if names
    }


def summary(results: list[dict[str, Any]]) -> dict[str, Any]:
    """All rows, and the errors of all held-out networks together."""
    points = [point for result in results for point in result["raw"]["held_out"]]
    errors = np.abs([point["predicted_us"] / point["measured_us"] - 1.0 for point in points])
    pooled = {"mape": float(errors.mean()), "within5": float((errors <= 0.05).mean()), "networks": len(errors)}
    return {"rows": [result["row"] for result in results], "pooled": pooled}


def in_words(row: dict[str, Any]) -> str:
    """One row for people."""
    if "network" not in row:
        return f"all {row['networks']} networks: mean error {row['mape']:.2%}, within 5 %: {row['within5']:.1%}"
    parts = ", ".join(f"{name} {part['table']:.1%} ({part['in_place']:.1%})" for name, part in row["shares"].items())
    return (
        f"{row['network']:<13} {row['threads']} thread(s): mean {row['mape']:.2%}, max {row['max']:.1%}, bias "
        f"{row['bias']:+.1%}, within 5 % {row['within5']:.0%}, noise {row['noise_floor']:.2%}, MACs alone "
        f"{row['macs_affine_mape']:.2%}, measured in {row['profile_seconds']:.0f} s; shares (in place): {parts}"
    )


def _raw(row: dict[str, Any], found: HeldOut, table: LatencyTable) -> dict[str, Any]:
    return {
        "network": row["network"],
        "threads": row["threads"],
        "device": table.device.key(),
        "date_utc": table.evidence["date_utc"],
        "held_out": [
            {"label": label, **plain(point), "price_us": price.predicted_us}
            for label, point, price in zip(found.labels, found.validation.points, found.prices, strict=True)
        ],
        "chunks": plain(found.chunks),
    }


def _tell(stage: str) -> Any:
    last = [0.0]

    def progress(done: int, total: int, what: str) -> None:
        if time.monotonic() - last[0] > 15:
            last[0] = time.monotonic()
            print(f"{stage}  {done}/{total}  {what}", file=sys.stderr, flush=True)

    return progress


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--carriers", type=int, default=ProfileConfig().carriers)
    parser.add_argument("--rounds", type=int, default=ProfileConfig().rounds)
    parser.add_argument("--data", type=Path, help="not needed")
    parser.add_argument("--work", type=Path, default=Path("runs/table_error"))
    parser.add_argument("--out", type=Path, default=HERE / "raw" / "table_error.json")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

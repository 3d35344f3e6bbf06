"""Refitted against unrefitted networks on real data, for every way to choose channels.

    python benchmarks/refit.py --data FOLDER [--json] [--only resnet56]

ResNet-56 on CIFAR-10 at half of its MACs, MobileNet-V2 on ImageNet images at .74 and .59 of them: every group keeps the
same share of its channels. Top-1 is counted on images that neither training nor calibration has seen, without any
fine-tuning. "none": the channels are cut and nothing else; "gram": each layer is refitted from the original network's
moments, as in the search; "gram+refresh": refitted once more on the pruned network (where channels are chosen as by
default). Raw figures go to raw/refit.json.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from amc_mobile.cost.formulas import macs
from amc_mobile.export.to_onnx import export
from amc_mobile.graph.trace import trace
from amc_mobile.models.evaluation import OnnxEvaluator
from amc_mobile.models.splits import make_splits
from amc_mobile.models.zoo import find, load_module, preprocessing_for
from amc_mobile.prune.gram import collect
from amc_mobile.prune.importance import Method, keep, rank
from amc_mobile.prune.reconstruct import Reconstructor
from amc_mobile.prune.refresh import refresh
from amc_mobile.sections.data import DataConfig
from amc_mobile.sections.model import ModelConfig
from amc_mobile.types import NetworkGraph, Policy

RAW = Path(__file__).parent / "raw" / "refit.json"
POINTS, RIDGE, SEED = 30, 1e-3, 0
REFRESHED = ("reconstruction",)  # the way by default: half a minute to a minute for each network


@dataclass(frozen=True)
class Case:
    """One network and its images, by the names of the files in the data folder."""

    name: str
    weights: str
    calibration: str
    test: str
    shares: tuple[float, ...]
    norm: float | None = None


CASES = (
    Case("resnet56", "cifar10_resnet56_jpegft.pt", "cifar10_train50k_jpeg.npz", "cifar10_test.npz", (0.5,)),
    Case(
        "mobilenet_v2",
        "imagenet_mobilenet_v2_1.0_coral.pt",
        "imagenet_sample500_256.zip",
        "imagenet_val650_227.zip",
        (0.74, 0.59),
        0.5,
    ),
)


def uniform(network: NetworkGraph, share: float) -> Policy:
    """The largest policy with one ratio for every group whose MACs are at most this share."""

    def policy(ratio: float) -> Policy:
        kept = (max(1, round(g.channels * ratio)) if g.prunable else g.channels for g in network.groups)
        return Policy(tuple(kept))

    low, high = 0.0, 1.0
    limit = share * macs(network, network.full().kept)
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if macs(network, policy(middle).kept) <= limit else (low, middle)
    return policy(low)


def measure(case: Case, data: Path, images: int, tests: int, methods: Sequence[Method]) -> Iterator[dict[str, Any]]:
    """One row for every share, way to choose channels, and repair."""
    norm = None if case.norm is None else [case.norm] * 3
    entry = find(case.name)
    preprocessing = preprocessing_for(entry, ModelConfig(name=case.name, mean=norm, std=norm))
    module = load_module(replace(entry, preprocessing=preprocessing), data / case.weights)
    config = DataConfig(
        name=str(data / case.calibration), test=str(data / case.test), search_images=1, calibration_images=images
    )
    splits = make_splits(config, SEED)
    calibration, labels = splits.calibration.tensors(preprocessing), splits.calibration.labels
    unseen = splits.test.tensors(preprocessing)[:tests]
    evaluator = OnnxEvaluator(unseen, splits.test.labels[:tests])
    traced = trace(export(module, entry.input_shape), case.name)
    grams = collect(traced, calibration, POINTS, seed=SEED)
    facts = {"network": case.name, "test_images": len(unseen), "calibration_images": images}
    whole = evaluator.score(traced.model).top1
    yield {**facts, "macs_share": 1.0, "importance": None, "repair": None, "top1": whole, "seconds": 0.0}
    for method in methods:
        start = time.monotonic()
        ranking = rank(traced, method, grams, images=calibration, labels=labels, module=module)
        ranked = time.monotonic() - start
        reconstructor = Reconstructor(traced, grams, RIDGE, ranking)
        for share in case.shares:
            policy = uniform(traced.network, share)
            channels = keep(policy, ranking)
            real = macs(traced.network, policy.kept) / macs(traced.network, traced.network.full().kept)
            row = {**facts, "macs_share": round(real, 4), "importance": method}
            weights = None
            for repair in ("none", "gram", *(["gram+refresh"] if method in REFRESHED else [])):
                start = time.monotonic()
                if repair == "gram":
                    weights = reconstructor.weights(channels)
                elif repair == "gram+refresh":
                    settings = {"points_per_image": POINTS, "ridge": RIDGE, "seed": SEED}
                    weights = refresh(traced, channels, weights, calibration, **settings)
                seconds = time.monotonic() - start + (ranked if repair == "none" else 0.0)
                top1 = evaluator.score(traced.slice(channels, weights)).top1
                yield {**row, "repair": repair, "top1": top1, "seconds": round(seconds, 2)}


def line(row: dict[str, Any]) -> str:
    """A row for people."""
    return (
        f"{row['network']:14} {row['macs_share']:6.2f}  {row['importance'] or 'original':15} "
        f"{row['repair'] or '':13} {row['top1']:7.1%}  {row['seconds']:6.1f} s"
    )


def write(rows: Sequence[dict[str, Any]], command: str) -> None:
    """Puts the rows into the raw file; networks that were not measured now keep theirs, under the same command."""
    before = json.loads(RAW.read_text(encoding="utf-8")) if RAW.is_file() else {"command": "", "rows": []}
    measured = {row["network"] for row in rows}
    kept = [row for row in before["rows"] if row["network"] not in measured and before["command"] == command]
    text = json.dumps({"command": command, "rows": [*kept, *rows]}, indent=1)
    RAW.parent.mkdir(exist_ok=True)
    RAW.write_text(text + "\n", encoding="utf-8")


def main() -> None:
    """Measures, prints, and writes the raw file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with weights and images")
    parser.add_argument("--json", action="store_true", help="print the raw rows instead of a table")
    parser.add_argument("--only", choices=[case.name for case in CASES], help="one network only")
    parser.add_argument("--images", type=int, default=300, help="calibration images")
    parser.add_argument("--tests", type=int, default=1000, help="at most so many test images")
    options = parser.parse_args()
    rows = []
    for case in CASES:
        if options.only in (None, case.name):
            for row in measure(case, options.data, options.images, options.tests, get_args(Method)):
                rows.append(row)
                print(line(row), file=sys.stderr if options.json else sys.stdout, flush=True)
            write(rows, f"python benchmarks/refit.py --data FOLDER --images {options.images} --tests {options.tests}")
    if options.json:
        print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()

"""What each part of the repair brings to fine-grained pruning: ResNet-56 on CIFAR-10, every layer at one density.

    python benchmarks/sparse_refit.py --data DIR [--densities .3,.2,.1] [--images 1000] [--tests 2000] [--json]

Weights are chosen by each of the ways that there are; "none": the others are set to zero and nothing else; "gram":
every output is refitted from the original network's moments, as in the search; "gram+refresh": refitted once more on
the sparse network (where weights are chosen as by default). Top-1 is counted on images that neither training nor
calibration has seen, without any fine-tuning. The raw result is benchmarks/raw/sparse_refit.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from provenance import provenance

from amc_mobile.export.to_onnx import export
from amc_mobile.graph.trace import trace
from amc_mobile.graph.traced import first_channels
from amc_mobile.models.evaluation import OnnxEvaluator
from amc_mobile.models.splits import make_splits
from amc_mobile.models.zoo import find, load_module
from amc_mobile.prune.gram import collect
from amc_mobile.prune.refresh import refresh
from amc_mobile.prune.sparse import SparsePruner
from amc_mobile.prune.sparse_repair import SparseReconstructor
from amc_mobile.prune.weight_ranking import WeightMethod, rank_weights
from amc_mobile.runs import write_json
from amc_mobile.sections.data import DataConfig
from amc_mobile.types import Policy

HERE = Path(__file__).parent
POINTS, RIDGE, SEED = 30, 1e-3, 0


def measure(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One row for the original, and for every way to choose weights, density and repair."""
    data, entry = arguments.data, find("resnet56")
    config = DataConfig(
        name=str(data / "cifar10_train50k_jpeg.npz"),
        test=str(data / "cifar10_test.npz"),
        search_images=1,
        calibration_images=arguments.images,
    )
    splits = make_splits(config, SEED)
    calibration = splits.calibration.shuffled(SEED).tensors(entry.preprocessing)
    unseen = splits.test.tensors(entry.preprocessing)[: arguments.tests]
    evaluator = OnnxEvaluator(unseen, splits.test.labels[: arguments.tests])
    module = load_module(entry, data / "cifar10_resnet56_jpegft.pt")
    traced = trace(export(module, entry.input_shape), entry.name)
    grams = collect(traced, calibration, POINTS, seed=SEED, every=True)
    yield {"importance": None, "density": 1.0, "repair": None, "top1": evaluator.score(traced.model).top1}
    for method in get_args(WeightMethod):
        start = time.monotonic()
        ranking = rank_weights(traced, method, grams)
        ranked = time.monotonic() - start
        plain = SparsePruner(traced, ranking)
        repaired = SparsePruner(traced, ranking, SparseReconstructor(traced, grams, RIDGE))
        for density in map(float, arguments.densities.split(",")):
            policy = Policy(tuple(max(1, round(density * group.channels)) for group in plain.network.groups))
            masks = plain.masks(policy)
            row = {"importance": method, "density": density, "ranking_s": round(ranked, 2)}
            for repair in ("none", "gram", *(["gram+refresh"] if method == "reconstruction" else [])):
                start = time.monotonic()
                weights = (plain if repair == "none" else repaired).weights(masks)
                if repair == "gram+refresh":
                    weights = refresh(
                        traced,
                        first_channels(traced.network.full()),
                        weights,
                        calibration,
                        points_per_image=POINTS,
                        ridge=RIDGE,
                        seed=SEED,
                        masks=masks,
                    )
                seconds = round(time.monotonic() - start, 2)
                top1 = evaluator.score(plain.prune(policy, weights)).top1
                yield {**row, "repair": repair, "top1": top1, "repair_s": seconds}


def line(row: dict[str, Any]) -> str:
    """A row for people."""
    return f"{row['importance'] or 'original':15} {row['density']:5.0%} {row['repair'] or '':13} {row['top1']:7.1%}"


def main() -> None:
    """Measures, prints, and writes the raw file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with weights and images")
    parser.add_argument("--densities", default=".3,.2,.1", help="default: %(default)s")
    parser.add_argument("--images", type=int, default=1000, help="calibration images (default: %(default)s)")
    parser.add_argument("--tests", type=int, default=2000, help="at most so many test images (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--raw", type=Path, default=HERE / "raw" / "sparse_refit.json")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for row in measure(arguments):
        rows.append(row)
        print(line(row), file=sys.stderr if arguments.json else sys.stdout, flush=True)
    found = {
        **provenance(),
        "calibration_images": arguments.images,
        "test_images": arguments.tests,
        "rows": rows,
    }
    write_json(arguments.raw, found)
    if arguments.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()

"""What int8 costs in accuracy, and whether a float network's score ranks pruned networks as their int8 scores do.

    python benchmarks/int8_accuracy.py --data DIR [--networks mobilenet_v2,...] [--policies 16] [--json] [--out FILE]

For each network top-1, top-5 and divergence from the float network on test images: by the method that finds ranges,
with and without corrected biases, with weights of seven bits and of eight. Eight bits are computed in float arithmetic
(graph optimisation off), because x86 processors without VNNI saturate their sums. Then random policies, pruned and
repaired, are scored in float and in int8; what counts is Spearman's correlation of the two orders.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import onnx
import onnxruntime
from provenance import provenance
from scipy.stats import spearmanr

from amc_mobile.cost.price import price
from amc_mobile.export.calibrate import Calibration, calibrate
from amc_mobile.export.quantise import in_int8, quantise, with_corrected_biases
from amc_mobile.export.to_onnx import export
from amc_mobile.graph.trace import trace
from amc_mobile.models import evaluation
from amc_mobile.models.data import open_data
from amc_mobile.models.evaluation import OnnxEvaluator
from amc_mobile.models.zoo import find, load_module, preprocessing_for
from amc_mobile.prune.gram import collect
from amc_mobile.prune.importance import rank
from amc_mobile.prune.pruner import Pruner
from amc_mobile.prune.reconstruct import Reconstructor
from amc_mobile.runs import write_json
from amc_mobile.sections.model import ModelConfig
from amc_mobile.types import Policy, RangeMethod, Score

HERE = Path(__file__).parent
_CALIBRATION, _SEED = 100, 0


class Preset(NamedTuple):
    """A trained network and its images."""

    weights: str
    images: str
    test: str
    test_images: int
    narrowest: float  # of the random policies
    settings: dict[str, Any]


_CIFAR = ("cifar10_train50k_jpeg.npz", "cifar10_test.npz", 2000, 0.55, {})
_IMAGENET = ("imagenet_sample500_256.zip", "imagenet_val650_227.zip", 650, 0.75, {"mean": [0.5] * 3, "std": [0.5] * 3})
NETWORKS = {
    "mobilenet_v2": Preset("imagenet_mobilenet_v2_1.0_coral.pt", *_IMAGENET),
    "mobilenet_v1_0.75": Preset("imagenet_mobilenet_v1_0.75_coral.pt", *_IMAGENET),
    "resnet56": Preset("cifar10_resnet56_jpegft.pt", *_CIFAR),
    "resnet20": Preset("cifar10_resnet20_jpegft.pt", *_CIFAR),
}


def main() -> None:
    """Measures every network, prints and writes what came of it."""
    arguments = _arguments()
    networks, found = {}, {}
    for name in arguments.networks.split(","):
        networks[name] = measure(name, NETWORKS[name], arguments)
        found = {**provenance(), "calibration_images": _CALIBRATION, "networks": networks}
        write_json(arguments.out, found)
        if not arguments.json:
            print("\n".join(in_words(name, networks[name])), flush=True)
    if arguments.json:
        print(json.dumps(found))


def measure(name: str, preset: Preset, arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything about one network."""
    entry = find(name)
    entry = replace(entry, preprocessing=preprocessing_for(entry, ModelConfig(name=name, **preset.settings)))
    model = export(load_module(entry, arguments.data / preset.weights), entry.input_shape)
    rng = np.random.default_rng(_SEED)
    images, source = [], arguments.data
    for spec, count in ((preset.images, _CALIBRATION), (preset.test, preset.test_images)):
        data = open_data(str(source / spec))
        chosen = np.sort(rng.permutation(len(data))[:count])
        images.append((data.tensors(chosen, entry.preprocessing), data.labels[chosen]))
    (calibration, _), (test, labels) = images
    threads = arguments.threads
    reference = OnnxEvaluator(test, labels, threads).logits(model)
    evaluator = OnnxEvaluator(test, labels, threads, reference)
    return {
        "test_images": len(test),
        "float": shares(evaluator.score(model)),
        "int8": variants(model, calibration, evaluator),
        "ranking": ranking(name, model, preset, calibration, evaluator, arguments.policies),
    }


def variants(model: onnx.ModelProto, images: np.ndarray, evaluator: OnnxEvaluator) -> list[dict[str, Any]]:
    """Every way to quantise the whole network."""
    rows = []
    methods: tuple[RangeMethod, ...] = get_args(RangeMethod)
    for method in methods:
        calibration = calibrate(model, images, method)
        for bits in (7, 8):
            for corrected in (False, True):
                score = scored(quantised(model, calibration, bits, corrected), evaluator, exactly=bits == 8)
                rows.append({"method": method, "weight_bits": bits, "corrected": corrected, **shares(score)})
    return rows


def quantised(model: onnx.ModelProto, calibration: Calibration, bits: int, corrected: bool) -> onnx.ModelProto:
    """The network in int8, its biases corrected or not."""
    first = quantise(model, calibration.ranges, bits)
    if not corrected:
        return first
    return quantise(with_corrected_biases(model, first, calibration.means), calibration.ranges, bits)


def scored(model: onnx.ModelProto, evaluator: OnnxEvaluator, *, exactly: bool) -> Score:
    """By the runtime's int8 kernels, or `exactly`: rounding as they do, but computing in float."""
    usual = evaluation.single_thread_session
    if exactly:
        evaluation.single_thread_session = _unoptimised
    try:
        return evaluator.score(model)
    finally:
        evaluation.single_thread_session = usual


def _unoptimised(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def ranking(
    name: str, model: onnx.ModelProto, preset: Preset, images: np.ndarray, evaluator: OnnxEvaluator, count: int
) -> dict[str, Any]:
    """Random pruned networks by their float score and by their int8 score."""
    traced = trace(model, name)
    grams = collect(traced, images, 30, seed=_SEED)
    order = rank(traced, "reconstruction", grams)
    pruner = Pruner(traced, order, Reconstructor(traced, grams, 1e-3, order))
    rng, network, rows = np.random.default_rng(_SEED), traced.network, []
    full = price(network, network.full()).macs
    for _ in range(count):
        shares_kept = rng.uniform(preset.narrowest, 1.0, len(network.groups))
        kept = [
            max(4, min(group.channels, round(group.channels * share / 4) * 4)) if group.prunable else group.channels
            for group, share in zip(network.groups, shares_kept, strict=True)
        ]
        policy = Policy(tuple(kept))
        small = pruner.prune(policy)
        scores = {"float": evaluator.score(small), "int8": evaluator.score(in_int8(small, images))}
        rows.append(
            {"macs_share": price(network, policy).macs / full} | {key: shares(one) for key, one in scores.items()}
        )
    if not rows:
        return {}
    correlations = {
        what: float(spearmanr([row["float"][what] for row in rows], [row["int8"][what] for row in rows])[0])
        for what in ("kl", "top1")
    }
    return {"spearman": correlations, "policies": rows}


def shares(score: Score) -> dict[str, float]:
    """What is kept of a score."""
    return {"top1": score.top1, "top5": score.top5, "kl": score.kl}


def in_words(name: str, found: dict[str, Any]) -> list[str]:
    """One network for people."""
    lines = [
        f"{name}: float {found['float']['top1']:.2%} / {found['float']['top5']:.2%}, {found['test_images']} images"
    ]
    for row in found["int8"]:
        how = f"{row['method']:<10} {row['weight_bits']} bits, {'corrected' if row['corrected'] else 'plain':<9}"
        lines.append(f"  {how} {row['top1']:.2%} / {row['top5']:.2%}, divergence {row['kl']:.4f}")
    if found["ranking"]:
        told = ", ".join(f"{key} {value:.3f}" for key, value in found["ranking"]["spearman"].items())
        lines.append(f"  rank correlation of float and int8 over {len(found['ranking']['policies'])} policies: {told}")
    return lines


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--policies", type=int, default=16)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path, default=HERE / "raw" / "int8_accuracy.json")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

"""What one episode costs: ours against the reference's procedure, on the same policies and samples, one thread.

    python benchmarks/episode_cost.py [--json] [--episodes N] [--workload B|C|all] [--full] [--data DIR] [--out FILE]

B: MobileNet-V1, 224x224, 1000 classes, 100 validation images, 300 calibration images x 10 points. C: the same network
for 32x32 images (its first stride is 1), 10 classes, 500 validation images, 3000 x 10. Images are random; weights too,
with BatchNorm statistics of random images. An episode is a policy made into a pruned, refitted network and scored on
all validation images. Ours is the search's own path: Pruner (L1, ridge next to nothing so that the mathematics is the
same) and OnnxEvaluator. Times are CPU-seconds of this process, from alternating episodes on random policies at 50 % of
the MACs (truncated-normal noise between the walls, as in a warm-up); each figure is a median over policies.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # read when numpy and torch are imported
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnx
import onnxruntime
import resnet56_search
import sklearn
import torch
from reference_procedure import ReferenceProcedure, Step, sample_rows
from torch import nn

from amc_mobile.cost.price import cost_function
from amc_mobile.export.to_onnx import export
from amc_mobile.graph.trace import trace
from amc_mobile.models.evaluation import OnnxEvaluator
from amc_mobile.models.mobilenet_v1 import MobileNetV1
from amc_mobile.prune.gram import Grams, collect
from amc_mobile.prune.importance import rank
from amc_mobile.prune.pruner import Pruner
from amc_mobile.prune.reconstruct import Reconstructor
from amc_mobile.search.budget import Walls, build_walls
from amc_mobile.search.ddpg import truncated_normal
from amc_mobile.sections.search import SearchConfig
from amc_mobile.types import Budget, Policy

T = TypeVar("T")

SEED = 0
POINTS = 10
RIDGE = 1e-10  # relative: far below what float32 rows can tell
SEARCH = 400  # episodes that share the one-off costs


@dataclass(frozen=True, slots=True)
class Workload:
    """One of ALGORITHM.md's workloads, section 5."""

    size: int
    classes: int
    validation: int
    calibration: int


WORKLOADS = {"B": Workload(224, 1000, 100, 300), "C": Workload(32, 10, 500, 3000)}


def main() -> None:
    """Runs what the command line asks for; JSON, if asked for, is all that stands on stdout."""
    options = arguments()
    torch.set_num_threads(1)
    raw = {name: measure(name, options.episodes) for name in WORKLOADS if options.workload in (name, "all")}
    result: dict[str, Any] = {name: summary(facts) for name, facts in raw.items()}
    if options.workload == "all":
        say("ResNet-56: searching")
        raw["resnet56"] = resnet56_search.measure(options.data, 1 if options.full else 10)
        result["resnet56_400_episodes_s"] = raw["resnet56"]["resnet56_400_episodes_s"]
    if options.out is not None:
        facts = {"command": " ".join(sys.argv), "machine": machine(), "result": result, "raw": raw}
        options.out.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1) if options.json else in_words(result, raw))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="figures only, as JSON")
    parser.add_argument("--episodes", type=int, default=5, help="measured policies per workload")
    parser.add_argument("--workload", choices=[*WORKLOADS, "all"], default="all", help="all: also the ResNet-56 search")
    parser.add_argument("--data", type=Path, help="folder with CIFAR-10 and ResNet-56's weights; none: random ones")
    parser.add_argument("--full", action="store_true", help="all 400 episodes of the ResNet-56 search, not 40")
    parser.add_argument("--out", type=Path, help="also write every raw time to this file, as JSON")
    return parser.parse_args()


def measure(name: str, episodes: int) -> dict[str, Any]:
    """Alternating episodes of one workload: raw CPU-seconds of both, one-off costs, and how far the logits differ."""
    load = WORKLOADS[name]
    module, draw = network(load), np.random.default_rng(SEED)
    calibration = draw.standard_normal((load.calibration, 3, load.size, load.size), np.float32)
    images = draw.standard_normal((load.validation, 3, load.size, load.size), np.float32)
    say(f"{name}: collecting second moments; sampling the reference's rows")
    traced = trace(export(module, (3, load.size, load.size)), f"mobilenet_v1 {name}")
    grams, collect_s = timed(collect, traced, calibration, POINTS, seed=SEED, threads=1)
    steps = sample_rows(module, norms_behind(module, grams), torch.from_numpy(calibration), POINTS, SEED)
    check_same_rows(steps, grams)
    ranking = rank(traced, "l1")
    pruner = Pruner(traced, ranking, Reconstructor(traced, grams, RIDGE, ranking))
    ours = OnnxEvaluator(images, draw.integers(load.classes, size=load.validation), 1)
    theirs = ReferenceProcedure(module, steps, torch.from_numpy(images))
    budget = Budget("macs", 0.5 * cost_function(traced.network, "macs")(traced.network.full().kept))
    walls = build_walls(traced.network, [budget], {}, SearchConfig())
    facts: dict[str, Any] = {"collect_s": collect_s, "prune_s": [], "episodes": []}
    for number in range(SEARCH):
        policy = walls.policy(random_widths(walls, draw))
        model, prune_s = timed(pruner.prune, policy)
        facts["prune_s"].append(prune_s)
        if number % max(SEARCH // episodes, 1) == 0 and len(facts["episodes"]) < episodes:
            facts["episodes"].append(compared(policy, model, pruner, ours, theirs, walls) | {"prune_s": prune_s})
            say(f"{name}, episode {number}: {facts['episodes'][-1]}")
    return facts


def compared(
    policy: Policy,
    model: onnx.ModelProto,
    pruner: Pruner,
    ours: OnnxEvaluator,
    theirs: ReferenceProcedure,
    walls: Walls,
) -> dict[str, Any]:
    """One policy scored by both: CPU-seconds, and the difference between their logits."""
    _, score_s = timed(ours.score, model)
    (logits, chosen), reference_s = timed(theirs.episode, [policy.kept[group.index] for group in walls.groups])
    kept = pruner.channels(policy)
    if not all(np.array_equal(theirs, kept[group.index]) for theirs, group in zip(chosen, walls.groups, strict=True)):
        sys.exit("the reference keeps other channels than ours; their logits cannot be compared")
    mine = ours.logits(model)
    return {
        "kept": [len(channels) for channels in chosen],
        "score_s": score_s,
        "reference_s": reference_s,
        "max_logit_diff": float(np.abs(mine - logits).max()),
        "argmax_agreement": float(np.mean(mine.argmax(axis=1) == logits.argmax(axis=1))),
        "logit_sd": float(logits.std()),
    }


def network(load: Workload) -> MobileNetV1:
    """MobileNet-V1 with random weights, and BatchNorms that fit: random scales, statistics of random images."""
    torch.manual_seed(SEED)
    module = MobileNetV1(1.0, load.classes)
    if load.size == 32:
        module.model[0][0].stride = (1, 1)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = None  # a plain average
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, 0.0, 0.3)
    with torch.no_grad():
        module.train()(torch.randn(32, 3, load.size, load.size))
    return module.eval()


def norms_behind(module: nn.Module, grams: Grams) -> dict[str, str | None]:
    """The layers whose inputs are pruned, in order, each with the BatchNorm that follows it."""
    parts = {
        name: part for name, part in module.named_modules() if isinstance(part, (nn.Conv2d, nn.BatchNorm2d, nn.Linear))
    }
    following = dict(zip(parts, [*list(parts)[1:], ""], strict=True))
    layers = [weight.removesuffix(".weight") for weight in grams.layers]
    return {name: following[name] if isinstance(parts[name], nn.Conv2d) else None for name in layers}


def random_widths(walls: Walls, draw: np.random.Generator) -> list[int]:
    """What an untrained agent answers: truncated-normal noise around one half, between the walls."""
    decided: list[int] = []
    for _ in walls.groups:
        decided.append(walls.choose(decided, truncated_normal(0.5, 0.5, draw)))
    return decided


def check_same_rows(steps: list[Step], grams: Grams) -> None:
    """Exits if the two do not fit the same samples."""
    for step, gram in zip(steps, grams.layers.values(), strict=True):
        rows = step.inputs.astype(np.float64)
        if gram.rows != len(rows) or not np.allclose(gram.gram()[:-1, :-1], rows.T @ rows, rtol=1e-3, atol=1e-3):
            sys.exit(f"the samples of {step.name} differ; see sample_rows in reference_procedure.py")


def timed(work: Callable[..., T], *arguments: Any, **options: Any) -> tuple[T, float]:
    """What `work` answers, and the CPU-seconds of this process that it took."""
    started = time.process_time()
    answer = work(*arguments, **options)
    return answer, time.process_time() - started


def summary(facts: dict[str, Any]) -> dict[str, float]:
    """The published figures of one workload: medians of times, the worst of the differences.

    Ours is a median evaluation plus the mean prune of a whole search of random policies, factorisations included.
    """
    column = {key: [episode[key] for episode in facts["episodes"]] for key in facts["episodes"][0]}
    ours = statistics.median(column["score_s"]) + statistics.mean(facts["prune_s"])
    reference = statistics.median(column["reference_s"])
    return {
        "ours_cpu_s": ours,
        "reference_cpu_s": reference,
        "ratio": reference / ours,
        "max_logit_diff": max(column["max_logit_diff"]),
        "argmax_agreement": statistics.mean(column["argmax_agreement"]),
    }


def in_words(result: dict[str, Any], raw: dict[str, Any]) -> str:
    """The same for people, with what the one-off costs add."""
    lines = []
    for name in WORKLOADS.keys() & result.keys():
        figures, once = result[name], raw[name]["collect_s"]
        lines.append(
            f"{name}: {figures['ours_cpu_s']:.3f} against {figures['reference_cpu_s']:.2f} CPU-seconds per episode, "
            f"{figures['ratio']:.1f} times; logits differ by {figures['max_logit_diff']:.1e} (their standard deviation "
            f"is {raw[name]['episodes'][0]['logit_sd']:.2f}), {figures['argmax_agreement']:.1%} equal argmax"
        )
        lines.append(f"   second moments, once: {once:.1f} s, {once / SEARCH:.3f} s of each of {SEARCH} episodes")
    if "resnet56" in raw:
        lines.append(f"ResNet-56, 400 episodes on 2 cores: {result['resnet56_400_episodes_s'] / 60:.1f} minutes")
    return "\n".join(lines)


def machine() -> str:
    """The processor's name and the versions that matter."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = next((line.split(":")[1].strip() for line in info.splitlines() if line.startswith("model name")), "")
    return (
        f"{model}; torch {torch.__version__}, onnxruntime {onnxruntime.__version__}, scikit-learn {sklearn.__version__}"
    )


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

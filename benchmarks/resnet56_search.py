"""What 400 episodes cost: ResNet-56, 32x32 images, 5000 of them, 2 cores; wall seconds of the real search.

The agent is AMC's as published (100 episodes of warm-up, 300 of decaying noise), the budget half the MACs, everything
else the project's default. With `--data DIR` the network and the images are real (CIFAR-10); without, weights and
images are random and the right answers are the unpruned network's own. A shortened search has every phase shortened
alike, its noise decaying as much faster, and its episodes' seconds are scaled up.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from amc_mobile.cost.price import cost_function
from amc_mobile.export.to_onnx import export
from amc_mobile.graph.trace import trace
from amc_mobile.models.data import open_data
from amc_mobile.models.evaluation import OnnxEvaluator
from amc_mobile.models.zoo import find, load_module
from amc_mobile.prune.gram import collect
from amc_mobile.prune.importance import rank
from amc_mobile.prune.pruner import Pruner
from amc_mobile.prune.reconstruct import Reconstructor
from amc_mobile.runs import RunFolder, read_trials
from amc_mobile.search.evaluator import PrunedEvaluator
from amc_mobile.search.run import search
from amc_mobile.sections.prune import PruneConfig
from amc_mobile.sections.search import SearchConfig
from amc_mobile.types import Budget

EPISODES, WARMUP = 400, 100
IMAGES, CALIBRATION = 5000, 300
CORES = 2
ENTRY = find("resnet56")


@dataclass(frozen=True, slots=True)
class Setting:
    """A network with images (N, 3, 32, 32) to search and to calibrate on; without labels the network's own answers."""

    module: torch.nn.Module
    search: np.ndarray
    labels: np.ndarray | None
    calibration: np.ndarray


def measure(data: Path | None, shorten: int) -> dict[str, Any]:
    """Wall seconds of 400 episodes, from a search that is `shorten` times shorter; with what they are made of."""
    setting = synthetic() if data is None else real(data)
    started = time.perf_counter()
    traced = trace(export(setting.module, ENTRY.input_shape), ENTRY.name)
    settings = PruneConfig()
    grams = collect(traced, setting.calibration, settings.points_per_image, seed=0, threads=CORES)
    ranking = rank(traced, settings.importance, grams)
    pruner = Pruner(traced, ranking, Reconstructor(traced, grams, settings.ridge, ranking))
    reference = OnnxEvaluator(setting.search, np.zeros(IMAGES, np.int64), CORES).logits(traced.model)
    labels = reference.argmax(axis=1) if setting.labels is None else setting.labels
    evaluator = OnnxEvaluator(setting.search, labels, CORES, reference)
    one_off_s = time.perf_counter() - started
    config = SearchConfig()
    config = config.model_copy(
        update={
            "agent": "ddpg",
            "episodes": EPISODES // shorten,
            "warmup_episodes": WARMUP // shorten,
            "noise_decay": config.noise_decay**shorten,
        }
    )
    budget = Budget("macs", 0.5 * cost_function(traced.network, "macs")(traced.network.full().kept))
    with tempfile.TemporaryDirectory() as root:
        folder = RunFolder(Path(root)).create()
        started, cpu_started = time.perf_counter(), time.process_time()
        result = search(traced.network, {}, PrunedEvaluator(pruner, evaluator), config, [budget], 0, folder)
        search_s, search_cpu_s = time.perf_counter() - started, time.process_time() - cpu_started
        trials = read_trials(folder.trials)
    return {
        "resnet56_400_episodes_s": one_off_s + shorten * search_s,
        "data": "random" if data is None else "CIFAR-10",
        "episodes_measured": EPISODES // shorten,
        "one_off_s": one_off_s,
        "search_s": search_s,
        "search_cpu_s": search_cpu_s,  # of all cores; half of it is what two idle cores need at least
        "best_top1": result.best.score.top1,
        "images_per_episode": float(np.mean([trial.score.images for trial in trials])),
        "networks_evaluated": len({trial.kept for trial in trials}),
        "episode_s": [trial.seconds for trial in trials],
    }


def real(folder: Path) -> Setting:
    """The trained network and training images of CIFAR-10, shuffled."""
    images = open_data(str(folder / "cifar10_train50k_jpeg.npz"))
    chosen = np.random.default_rng(0).permutation(len(images))[: IMAGES + CALIBRATION]
    pixels = images.tensors(chosen, ENTRY.preprocessing)
    module = load_module(ENTRY, folder / "cifar10_resnet56_jpegft.pt")
    return Setting(module, pixels[:IMAGES], images.labels[chosen[:IMAGES]], pixels[IMAGES:])


def synthetic() -> Setting:
    """Random weights with BatchNorm statistics of random images; random images."""
    pixels = np.random.default_rng(0).standard_normal((IMAGES + CALIBRATION, *ENTRY.input_shape), np.float32)
    module = load_module(ENTRY, None)
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.momentum = None  # a plain average
    with torch.no_grad():
        module.train()(torch.from_numpy(pixels[IMAGES:]))
    return Setting(module.eval(), pixels[:IMAGES], None, pixels[IMAGES:])

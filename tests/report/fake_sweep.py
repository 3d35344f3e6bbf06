"""The files of a sweep as far as its page reads them: sweep.json, and a summary for every complete run."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from amc_mobile.runs import RunFolder, write_json


def summary(after_us: float, accuracy: float, **changed: object) -> dict[str, object]:
    """What one run came to; the original takes 2 ms and has 98.9 %."""
    before_us = float(changed.get("latency_before_us", 2000.0))  # type: ignore[arg-type]
    speedup = before_us / after_us
    return {
        "device": "Google Pixel 8",
        "emulated": False,
        "accuracy_metric": "top1",
        "test_images": 500,
        "accuracy_before": 0.989,
        "accuracy_after": accuracy,
        "accuracy_before_finetuning": accuracy - 0.01,
        "accuracy_uniform": accuracy - 0.03,
        "latency_before_us": before_us,
        "latency_after_us": after_us,
        "speedup_ci": [speedup * 0.99, speedup * 1.01],
        "accuracy_after_int8": accuracy - 0.002,
        "latency_after_int8_us": after_us / 2,
        "macs_before": 1000,
        "macs_after": 450,
        **changed,
    }


def entry(device: str, share: float, seed: int, agent: str = "auto", **changed: object) -> dict[str, object]:
    """A run's line in sweep.json."""
    variant = f"{device}-latency{share}-{agent}"
    return {
        "name": f"{variant}-s{seed}",
        "variant": variant,
        "device": device,
        "limits": {"latency": share},
        "agent": agent,
        "seed": seed,
        "complete": True,
        "problem": "",
        **changed,
    }


def write_sweep(root: Path, runs: list[tuple[dict[str, object], dict[str, object]]], model: str = "digits") -> Path:
    """The folder of a sweep with these runs."""
    root.mkdir(exist_ok=True)
    write_json(root / "sweep.json", {"schema": 1, "model": model, "runs": [line for line, _ in runs]})
    for line, found in runs:
        folder = RunFolder(root / str(line["name"])).create()
        if found:
            write_json(folder.summary, found)
    return root


def write_large_sweep(root: Path, seeds: int = 3, agents: tuple[str, ...] = ("auto", "ddpg")) -> Path:
    """Two devices, five budgets; one run failed, one device is emulated."""
    rng = np.random.default_rng(0)
    runs = []
    for device, full_us, changed in (("pixel", 2000.0, {}), ("192.168.100.200:5555", 9000.0, {"emulated": True})):
        for agent in agents:
            for share in (0.3, 0.4, 0.5, 0.6, 0.8):
                for seed in range(seeds):
                    before_us = full_us * float(1 + rng.normal(0, 0.02))
                    after_us = before_us * share * float(1 + rng.normal(0, 0.005))
                    accuracy = 0.989 - 0.2 * (0.9 - share) ** 3 - 0.01 * (agent == "ddpg") * (1 - share)
                    facts = {"latency_before_us": before_us, **changed}
                    accuracy += float(rng.normal(0, 0.003))
                    runs.append((entry(device, share, seed, agent), summary(after_us, accuracy, **facts)))
    problem = "shared/table-gone table: nothing answers at 10.0.0.9:5555; is the phone there?"
    runs.append((entry("gone", 0.5, 0, complete=False, problem=problem), {}))
    return write_sweep(root, runs)

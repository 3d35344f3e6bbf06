"""Is a model as fast in the runner as in Python? The same models through both, in turn, on this machine.

    python benchmarks/runner_speed.py [--json] [--threads 1] [--rounds 15] [--models a,b] [--compiler auto]

In every round each network gets a new session in Python (inputs and outputs bound, as the host device times it) and one
in the runner, right after one another, in an order that alternates. Both compute on the calling thread and are timed by
its CPU time; with more threads by the wall. What counts is, for each network in fp32 and in int8, the median over the
rounds of runner / Python. How the processor happens to be clocked, and where the memory of a session happens to lie,
moves single rounds; the interval says how much is left of that in the median.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from amc_mobile.device.host import HostDevice
from amc_mobile.device.machine import cpu_model
from amc_mobile.device.rounds import timed_runs
from amc_mobile.export.calibrate import activation_ranges
from amc_mobile.export.quantise import quantise
from amc_mobile.export.to_onnx import export
from amc_mobile.measurements import TimingJob, TimingProtocol
from amc_mobile.models.zoo import find, load_module
from amc_mobile.profile.interval import median_interval
from amc_mobile.runs import write_json
from android_bench.bundle import RUNNER, Bundle, bundle
from android_bench.runner.events import EventReader, Timed
from android_bench.runner.libraries import LIBRARY
from android_bench.runner.manifest import Manifest, Model, Step

RAW = Path(__file__).parent / "raw" / "runner_speed.json"
NETWORKS = "digits,resnet20,mobilenet_v1,mobilenet_v2,mobilenet_v3_small"
ASKED = 1.03


def main() -> None:
    """Times all networks, writes the raw file, prints the ratios."""
    arguments = _arguments()
    made = bundle("x86_64", compiler=arguments.compiler, progress=_tell)
    rows = [
        row(name, precision, model, made, arguments)
        for name in arguments.models.split(",")
        for precision, model in models(name).items()
    ]
    found = {
        "command": " ".join(["python", "benchmarks/runner_speed.py", *sys.argv[1:]]),
        "machine": cpu_model(),
        "runtime": made.runtime,
        "build": made.build,
        "threads": arguments.threads,
        "asked": ASKED,
        "largest": max(each["ratio"] for each in rows),
        "middle": statistics.median(each["ratio"] for each in rows),
        "rows": rows,
    }
    write_json(arguments.out, found)
    print(json.dumps({**found, "rows": len(rows)}) if arguments.json else in_words(found))


def models(name: str) -> dict[str, bytes]:
    """The network with random weights, in fp32 and in int8."""
    entry = find(name)
    model = export(load_module(entry, None), entry.input_shape)
    images = np.random.default_rng(0).standard_normal((2, *entry.input_shape)).astype(np.float32)
    small: onnx.ModelProto = quantise(model, activation_ranges(model, images))
    return {"fp32": model.SerializeToString(), "int8": small.SerializeToString()}


def row(name: str, precision: str, model: bytes, made: Bundle, arguments: argparse.Namespace) -> dict[str, Any]:
    """One network: the medians of every round in both, and their ratio."""
    host = HostDevice(arguments.threads)
    medians: dict[str, list[float]] = {"python": [], "runner": []}
    with tempfile.TemporaryDirectory(prefix="amc-speed-") as temporary:
        folder = Path(temporary)
        (folder / "m.onnx").write_bytes(model)
        for number in range(arguments.rounds):
            protocol = TimingProtocol(rounds=1, warmups=10, runs=50, min_time_s=arguments.seconds)
            for which in ("python", "runner") if number % 2 == 0 else ("runner", "python"):
                if which == "python":
                    (measured,) = host.time_models([TimingJob(name, model)], protocol)
                    medians[which].append(measured.latency_us())
                else:
                    medians[which].append(in_runner(made, folder, protocol, arguments.threads))
    ratios = [runner / python for runner, python in zip(medians["runner"], medians["python"], strict=True)]
    result = {
        "network": name,
        "precision": precision,
        "python_us": statistics.median(medians["python"]),
        "runner_us": statistics.median(medians["runner"]),
        "ratio": statistics.median(ratios),
        "interval": median_interval(ratios, np.random.default_rng(0)),
        "medians_us": medians,
    }
    _tell(line(result))
    return result


def in_runner(made: Bundle, folder: Path, protocol: TimingProtocol, threads: int) -> float:
    """The median of one session in the runner, µs."""
    amount = timed_runs(protocol)
    times = amount.runs, amount.min_time_s, amount.most_time_s, amount.fewest
    step = Step(0, "time", protocol.warmups, *times)
    clock = "thread" if threads == 1 else "wall"
    manifest = Manifest(str(made.files[LIBRARY]), (Model("m.onnx"),), (step,), threads=threads, clock=clock)
    (folder / "manifest.txt").write_text(manifest.text(), encoding="utf-8")
    ended = subprocess.run([made.files[RUNNER], "manifest.txt"], cwd=folder, stdout=subprocess.PIPE, check=True)
    (timed,) = (event for event in EventReader().feed(ended.stdout) if isinstance(event, Timed))
    return statistics.median(timed.values_us)


def in_words(found: dict[str, Any]) -> str:
    """The table for people."""
    last = (
        f"runner / Python: {found['middle']:.4f} in the middle, {found['largest']:.4f} at most (asked: {ASKED}); "
        f"{found['runtime']}, {found['threads']} thread(s), {found['machine']}"
    )
    return "\n".join([*map(line, found["rows"]), last])


def line(row: dict[str, Any]) -> str:
    """One network's figures."""
    low, high = row["interval"]
    times = f"Python {row['python_us']:8.1f} us  runner {row['runner_us']:8.1f} us"
    return f"{row['network']:<18} {row['precision']}  {times}  ratio {row['ratio']:.4f} ({low:.4f}-{high:.4f})"


def _tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.3, help="of one session's runs, at least")
    parser.add_argument("--models", default=NETWORKS)
    parser.add_argument("--compiler", default="auto", help="auto, zig or gcc")
    parser.add_argument("--out", type=Path, default=RAW)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

"""Writes down what finished runs found: raw facts in benchmarks/raw/NAME.json, and all of them in RESULTS.md.

    python benchmarks/collect.py runs/demo runs/mobilenet_v2 runs/resnet56

Every number in RESULTS.md and in the README comes from a file in raw/; each file names the command that made it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from claims import claims
from engine_tables import engine_tables
from latency_results import latency_results
from losses import losses
from network_results import network_results
from phone_results import phone_results
from transfer_results import transfer_results

HERE = Path(__file__).parent
RAW = HERE / "raw"
HEAD = """# Results

Written by `python benchmarks/collect.py RUN ...` from finished runs; the raw facts of each row lie in `raw/`.
Accuracy is top-1 on test images that the search never saw, before any fine-tuning unless a column says otherwise; of
detectors it is COCO's mAP over IoU 0.5 to 0.95.
"Uniform" prunes every group by the same ratio, on the same budget, with the same least-squares repair.

**Where the data differ from the paper's.** The CIFAR-10 training images here are JPEG files (quality 75, chroma
halved), which costs accuracy, and the trained networks were adapted to them: ResNet-56 has 89.0 % where the paper's
has 92.8 %, ResNet-20 86.9 %. They were adapted for less than two epochs; how much the same fine-tuning would lift the
originals is not in the tables. Plain-20 was trained here (configs/plain20_cifar10.toml). Of ImageNet there are 650
validation images, an easier lot than the whole (MobileNet-V2: 77.1 % against its published 70.8 to 71.8 %): one
accuracy has a standard error of 1.7 points, so that differences are paired, image by image. The 500 further images
serve search and calibration. Fine-tuning takes few epochs here, and there was no phone: times are of the host's CPU.

## What the paper claims, and what was found here

"""
NEED_NO_DATA = {"demo": "make demo", "ssdlite_shapes": "amc run configs/ssdlite_shapes.toml"}
RUNS = """One seed each. "Predicted" is the table's word over the clock's, less one; the table's error is that of
networks left out of it. The originals had none of the fine-tuning."""
COLUMNS = (
    "run",
    "budget",
    "original",
    "pruned",
    "uniform",
    "fine-tuned",
    "latency, ms",
    "speed-up (95 %)",
    "predicted",
    "table error",
)


def facts(run: Path) -> dict[str, Any]:
    """The facts of one run folder, without its raw timings (they stay in the run's own comparison.json)."""
    files = {
        name: json.loads((run / f"{name}.json").read_text()) for name in ("summary", "accuracy", "search", "table")
    }
    kept = {
        key: value
        for key, value in files["summary"].items()
        if key not in ("onnx", "onnx_int8", "weights", "report", "commands")
    }
    return {
        "command": command(run),
        **kept,
        "accuracy": files["accuracy"],
        "table": {key: value for key, value in files["table"]["validation"].items() if key != "points"},
        "agents": {
            trial["agent"]: trial["score"] for trial in [*files["search"]["opponents"], files["search"]["best"]]
        },
    }


def command(run: Path) -> str:
    """What to type to get this row again."""
    return NEED_NO_DATA.get(run.name, f"make bench-{run.name} DATA=FOLDER")


def row(name: str, fact: dict[str, Any]) -> str:
    """One line of the table."""
    accuracy = fact["accuracy"]
    low, high = fact["speedup_ci"]
    unit = " mAP" if accuracy["metric"] == "map" else ""
    shares = [
        f"{accuracy[which][accuracy['metric']]:.1%}{unit}" if accuracy.get(which) else "–"
        for which in ("original", "pruned", "uniform", "finetuned")
    ]
    budget = f"{fact['fraction']:.0%} {fact['metric'].removesuffix('_us')}"
    latency = f"{fact['latency_before_us'] / 1000:.2f} → {fact['latency_after_us'] / 1000:.2f}"
    cells = [f"{name}: `{fact['command']}`", budget, *shares, latency, f"{fact['speedup']:.2f} ({low:.2f}–{high:.2f})"]
    return f"| {' | '.join(cells)} | {fact['prediction_error']:+.1%} | {fact['table']['mape']:.1%} |"


def read(path: Path) -> Any:
    """A JSON file's value."""
    return json.loads(path.read_text(encoding="utf-8"))


def main(runs: list[str]) -> None:
    """Collects the runs named, and writes RESULTS.md from everything in raw/."""
    RAW.mkdir(exist_ok=True)
    for run in map(Path, runs):
        (RAW / f"{run.name}.json").write_text(json.dumps(facts(run), indent=1) + "\n", encoding="utf-8")
    found = {path.stem: read(path) for path in sorted(RAW.glob("*.json"))}
    rows = [row(name, fact) for name, fact in found.items() if "accuracy" in fact]  # the others are no runs
    first = [("claim", "paper", "here"), *claims(found)]
    lines = [f"| {' | '.join(each)} |" for each in first]
    lines[1:1] = ["|---" * len(first[0]) + "|"]
    lines += ["", "## Whole runs", "", f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|", *rows, "", RUNS]
    text = HEAD + "\n".join(lines) + "\n" + losses(found) + network_results(found) + engine_tables(found) + "\n"
    text += latency_results(found)
    text += "\n" + phone_results(found)
    text += transfer_results(found)
    (HERE / "RESULTS.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])

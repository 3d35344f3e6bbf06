"""Accuracy against the clock: original, uniform, AMC under MACs and AMC under latency, each in fp32 and in int8.

    python benchmarks/accuracy_against_clock.py --data DIR [--model mobilenet_v2|resnet20|digits] [--device host]
        [--shares 0.8,0.65,0.5] [--finetune-epochs N] [--work DIR] [--out FILE.json] [--json]

For every share of the original's latency three runs: `uniform` and AMC under that latency, and AMC under as many MACs
as the uniform network has, so that it lands near the same latency. All repair alike, search with the same evaluator,
and are quantised by calibration images. Then every network, also in int8, is timed on the device, interleaved in one
session, and tested on the images that no search saw. Beside the JSON stand the picture as .svg and .png.

Runs that are finished are not run again: interrupt it, add shares or epochs, and type the same command.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from provenance import provenance

from amc_mobile import config as configuration
from amc_mobile.cli.benching import protocol_of
from amc_mobile.cli.console import note, progress_line
from amc_mobile.cli.pipeline import Pipeline, open_run
from amc_mobile.cli.session import Session, read_onnx
from amc_mobile.cli.settings import differences, override, with_data_folder
from amc_mobile.cli.settling import first_table
from amc_mobile.config import RunConfig
from amc_mobile.cost.price import price
from amc_mobile.measurements import Measurement, TimingJob
from amc_mobile.models.paired import share_interval
from amc_mobile.profile.compare import speedup_of
from amc_mobile.profile.interval import latency_interval
from amc_mobile.profile.variants import Variants
from amc_mobile.report.clock_figure import ORIGINAL, ClockPoint, against_clock, against_clock_png
from amc_mobile.report.comparing import method_of, on_device
from amc_mobile.report.drawing import standalone
from amc_mobile.runs import RunFolder, plain, read_json, write_bytes, write_json, write_text
from amc_mobile.types import Policy

HERE = Path(__file__).parent
SEARCH = ("train", "graph", "profile", "calibrate", "search", "refine", "settle")
STAGES = (*SEARCH, "prune", "finetune", "export", "quantise")
PRESETS: dict[str, dict[str, Any]] = {
    "mobilenet_v2": {"search.evaluations": 70, "search.episodes": 30, "search.sensitivity_points": 1},
    "resnet20": {
        "model.name": "resnet20",
        "model.weights": Path("cifar10_resnet20_jpegft.pt"),
        "search.evaluations": 200,
        "search.episodes": 60,
    },
    "digits": {"search.evaluations": 20, "search.episodes": 10, "data.search_images": 200, "profile.force": True},
}
CONFIGS = {"mobilenet_v2": "mobilenet_v2_imagenet.toml", "resnet20": "resnet56_cifar10.toml"}


class Network(NamedTuple):
    """One network to be timed and tested."""

    method: str
    label: str
    precision: str
    file: Path


def main() -> None:
    """Does the runs that are missing, measures everything together, and draws it."""
    arguments = _arguments()
    base = settings(arguments)
    table = arguments.table
    configs: list[RunConfig] = []
    for share in map(float, arguments.shares.split(",")):
        uniform = run(
            base, arguments, f"uniform-{share:g}", {"budget.latency": share, "search.agent": "uniform"}, table
        )
        table = table or first_table(RunFolder(uniform.out))
        if base.model.weights is None:  # digits is trained by the first run, and no other network by the others
            base = override(base, {"model.weights": RunFolder(uniform.out).original_weights})
        under_latency = run(base, arguments, f"latency-{share:g}", {"budget.latency": share}, table)
        under_macs = run(base, arguments, f"macs-{share:g}", {"budget.macs": macs_share(uniform)}, table)
        configs += [under_latency, under_macs, uniform]
    facts = measure(configs, arguments)
    write_json(arguments.out, facts)
    points = [ClockPoint(**{key: row[key] for key in ClockPoint.__dataclass_fields__}) for row in facts["points"]]
    picture = against_clock(points, device=facts["on"], title=f"{arguments.model}: accuracy against the clock")
    write_text(arguments.out.with_suffix(".svg"), standalone(picture))
    write_bytes(arguments.out.with_suffix(".png"), against_clock_png(points, device=facts["on"]))
    if arguments.json:
        print(json.dumps(plain(facts)))
    else:
        print("\n".join(map(in_words, facts["points"])))


def settings(arguments: argparse.Namespace) -> RunConfig:
    """The published configuration of the network with a shorter search, the same for every method."""
    name = CONFIGS.get(arguments.model)
    base = RunConfig() if name is None else configuration.load(HERE.parent / "configs" / name)
    given = PRESETS[arguments.model] | {
        "device.name": arguments.device,
        "device.threads": arguments.threads,
        "finetune.epochs": arguments.finetune_epochs,
        "search.evaluations": arguments.evaluations or PRESETS[arguments.model]["search.evaluations"],
        "seed": arguments.seed,
    }
    return with_data_folder(override(base, given), arguments.data)


def run(
    base: RunConfig, arguments: argparse.Namespace, name: str, given: dict[str, Any], table: Path | None
) -> RunConfig:
    """One run up to its networks in fp32 and int8."""
    config = override(base, given | {"out": arguments.work / name, "profile.table": table})
    note(f"--- {name}")
    Pipeline(open_run(config, update=only_training_differs(config)), config).run(STAGES)
    return config


def only_training_differs(config: RunConfig) -> bool:
    """Whether the folder holds the same searches, fine-tuned otherwise; others are not overwritten."""
    path = RunFolder(config.out).config
    changed = differences(configuration.load(path), config) if path.is_file() else []
    return all(each.startswith("finetune.") for each in changed)


def macs_share(config: RunConfig) -> float:
    """The share of the MACs that the run's network has."""
    session = Session(RunFolder(config.out), config)
    network, policy = session.network, Policy(tuple(read_json(session.folder.policy)["kept"]))
    return round(price(network, policy).macs / price(network, network.full()).macs, 4)


def measure(configs: list[RunConfig], arguments: argparse.Namespace) -> dict[str, Any]:
    """Every network on the clock, interleaved in one session of the device, and on the test images."""
    session = Session(RunFolder(configs[0].out), configs[0])
    info = session.device.info()
    networks, variants = list_networks(configs), Variants(session.traced, info)
    jobs = [TimingJob(str(number), variants.sent(read_onnx(one.file))) for number, one in enumerate(networks)]
    protocol = protocol_of(configs[0].bench, seed=1)
    with progress_line("time") as progress:
        measured = session.device.time_models(jobs, protocol, progress)
    evaluator = session.evaluator("test")
    points = []
    for network, found in zip(networks, measured, strict=True):
        note(f"testing {network.method} {network.label} {network.precision}")
        top1 = evaluator.score(read_onnx(network.file)).top1
        points.append(point(network, found, measured[0], top1, len(session.splits.test)))
    return {
        **provenance(),
        "model": arguments.model,
        "device": info,
        "on": on_device(info),
        "finetune_epochs": arguments.finetune_epochs,
        "seed": arguments.seed,
        "test_images": len(session.splits.test),
        "protocol": protocol,
        "points": points,
    }


def list_networks(configs: list[RunConfig]) -> list[Network]:
    """The original and what every run made, in both precisions."""
    first = RunFolder(configs[0].out)
    found = [Network(ORIGINAL, "", "fp32", first.original_onnx), Network(ORIGINAL, "", "int8", first.original_int8)]
    for number, config in enumerate(configs):
        folder, (method, label) = RunFolder(config.out), method_of(config)
        label = label if method != "AMC under MACs" else method_of(configs[number - 1])[1]  # it was made to land there
        found += [Network(method, label, "fp32", folder.model_onnx), Network(method, label, "int8", folder.model_int8)]
    return found


def point(network: Network, found: Measurement, original: Measurement, top1: float, images: int) -> dict[str, Any]:
    """One network's facts: those of a point, and what they rest on."""
    speedup, interval = speedup_of(original, found, seed=0)
    return {
        "method": network.method,
        "precision": network.precision,
        "label": network.label,
        "latency_us": found.latency_us(),
        "latency_ci": latency_interval(found.round_medians_us(), np.random.default_rng(0)),
        "accuracy": top1,
        "accuracy_ci": share_interval(top1, images),
        "speedup": speedup,
        "speedup_ci": interval,
        "file": network.file.parent.name + "/" + network.file.name,
        "rounds_us": found.round_medians_us(),
    }


def in_words(row: dict[str, Any]) -> str:
    """One network for people."""
    low, high = row["accuracy_ci"]
    return (
        f"{row['method']:<20} {row['label']:>4} {row['precision']}  {row['latency_us'] / 1e3:7.3f} ms "
        f"({row['speedup']:.2f}x)  top-1 {row['accuracy']:.1%} ({low:.1%} to {high:.1%})"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of weights and images; any for digits")
    parser.add_argument("--model", choices=sorted(PRESETS), default="mobilenet_v2")
    parser.add_argument("--device", default="host")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", type=Path, default=None, help="a latency table of this device and network")
    parser.add_argument("--shares", default="0.8,0.65,0.5", help="of the original's latency")
    parser.add_argument("--evaluations", type=int, default=None, help="networks that each search may evaluate")
    parser.add_argument("--finetune-epochs", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("runs/against_clock"))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path, default=HERE / "raw" / "accuracy_against_clock.json")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

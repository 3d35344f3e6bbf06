"""Does the phone path measure what the host device measures? The same networks through both, in turn, on one machine.

    python benchmarks/phone_beside_host.py --device HOST:PORT [--json] [--threads 1] [--rounds 7] [--models a,b]

HOST:PORT is an ADB daemon on this very machine (`make test-phone` says how one is started), so that the runner, its
manifest, the transport and the statistics are all that differs: no phone is needed, and nothing is emulated. Each round
times every network on the host device and right after it through the daemon. What counts is the median of the rounds'
ratios, phone path / host, for each network in fp32 and in int8.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np

from amc_mobile.cli.networks import trace_network
from amc_mobile.cli.open_device import open_device
from amc_mobile.config import DeviceConfig, ModelConfig
from amc_mobile.device.machine import cpu_model
from amc_mobile.profile.compare import median_interval
from amc_mobile.profile.variants import Variants
from amc_mobile.runs import write_json
from amc_mobile.types import TimingJob, TimingProtocol

RAW = Path(__file__).parent / "raw" / "phone_beside_host.json"
NETWORKS = "digits,resnet20,mobilenet_v1,mobilenet_v2,resnet18"


def main() -> None:
    """Times all networks, writes the raw file, prints the ratios."""
    arguments = _arguments()
    rows = [row(name, precision, arguments) for name in arguments.models.split(",") for precision in ("fp32", "int8")]
    found = {
        "command": f"python benchmarks/phone_beside_host.py --device HOST:PORT --threads {arguments.threads} "
        f"--rounds {arguments.rounds} --models {arguments.models}",
        "machine": cpu_model(),
        "rows": rows,
        "largest": max(abs(each["ratio"] - 1.0) for each in rows),
    }
    write_json(arguments.out, found)
    if arguments.json:
        print(json.dumps({key: value for key, value in found.items() if key != "rows"}))
        return
    for each in rows:
        low, high = each["interval"]
        print(
            f"{each['network']:<14} {each['precision']}  {each['host_us']:9.1f} us  {each['ratio']:.4f} "
            f"({low:.4f}-{high:.4f})"
        )
    print(f"largest difference {found['largest']:.1%}")


def row(name: str, precision: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """One network: the rounds' medians on both, and their ratio."""
    common = {"threads": arguments.threads, "precision": precision}
    host = open_device(DeviceConfig.model_validate(common))
    phone = open_device(DeviceConfig.model_validate({"name": arguments.device, **common}), force=True)
    traced = trace_network(ModelConfig(name=name))
    job = TimingJob(name, Variants(traced, host.info()).model(traced.network.full()))
    medians: dict[str, list[float]] = {"host": [], "phone": []}
    for number in range(arguments.rounds):
        protocol = TimingProtocol(rounds=1, warmups=10, runs=50, min_time_s=0.5, seed=number)
        turns = [("host", host), ("phone", phone)]
        for which, device in turns if number % 2 == 0 else reversed(turns):
            medians[which].append(device.time_models([job], protocol)[0].median_us())
    ratios = [there / here for here, there in zip(medians["host"], medians["phone"], strict=True)]
    return {
        "network": name,
        "precision": precision,
        "threads": arguments.threads,
        "host_us": statistics.median(medians["host"]),
        "phone_us": statistics.median(medians["phone"]),
        "ratio": statistics.median(ratios),
        "interval": median_interval(ratios, np.random.default_rng(0)),
        "medians_us": medians,
        "build": phone.info().details.get("build"),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", required=True, help="HOST:PORT of an ADB daemon on this machine, or an alias")
    parser.add_argument("--models", default=NETWORKS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=RAW)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()

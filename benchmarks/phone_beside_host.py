"""Does the phone path measure what the host device measures? The same networks through both, in turn, on one machine.

    python benchmarks/phone_beside_host.py [--json] [--threads 1] [--rounds 7] [--models a,b] [--device HOST:PORT]

The daemon is Debian's real adbd on this very machine, in a network of its own (`make test-phone` gets it), so that the
runner, its manifest, the transport and the statistics are all that differs: nothing is emulated. Each round
times every network on the host device and right after it through the daemon. What counts is the median of the rounds'
ratios, phone path / host, for each network in fp32 and in int8.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from real_adbd import adbd, inside

from amc_mobile.cli.networks import trace_network
from amc_mobile.cli.open_device import open_device
from amc_mobile.device.machine import cpu_model
from amc_mobile.measurements import TimingJob, TimingProtocol
from amc_mobile.profile.interval import median_interval
from amc_mobile.profile.variants import Variants
from amc_mobile.runs import write_json
from amc_mobile.sections.device import DeviceConfig
from amc_mobile.sections.model import ModelConfig

RAW = Path(__file__).parent / "raw" / "phone_beside_host.json"
NETWORKS = "digits,resnet20,mobilenet_v1,mobilenet_v2,resnet18"


def main() -> None:
    """Times all networks, writes the raw file, prints the ratios."""
    arguments = _arguments()
    if arguments.inside:
        with adbd() as address, redirect_stdout(sys.stderr):
            found = measured(arguments, address)
        print(json.dumps(found))
        return
    found = measured(arguments, arguments.device) if arguments.device else inside(__file__, sys.argv[1:])
    write_json(arguments.out, found)
    if arguments.json:
        print(json.dumps({key: value for key, value in found.items() if key != "rows"}))
        return
    for each in found["rows"]:
        low, high = each["interval"]
        name, precision = each["network"], each["precision"]
        print(f"{name:<14} {precision}  {each['host_us']:9.1f} us  {each['ratio']:.4f} ({low:.4f}-{high:.4f})")
    print(f"largest difference {found['largest']:.1%}")


def measured(arguments: argparse.Namespace, address: str) -> dict[str, Any]:
    """All networks through the daemon at an address, and on the host."""
    rows = [
        row(name, precision, address, arguments)
        for name in arguments.models.split(",")
        for precision in ("fp32", "int8")
    ]
    return {
        "command": f"python benchmarks/phone_beside_host.py --threads {arguments.threads} --rounds {arguments.rounds}",
        "machine": cpu_model(),
        "rows": rows,
        "largest": max(abs(each["ratio"] - 1.0) for each in rows),
    }


def row(name: str, precision: str, address: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """One network: the rounds' medians on both, and their ratio."""
    common = {"threads": arguments.threads, "precision": precision}
    host = open_device(DeviceConfig.model_validate(common))
    phone = open_device(DeviceConfig.model_validate({"name": address, **common}), force=True)
    traced = trace_network(ModelConfig(name=name))
    job = TimingJob(name, Variants(traced, host.info()).model(traced.network.full()))
    medians: dict[str, list[float]] = {"host": [], "phone": []}
    for number in range(arguments.rounds):
        protocol = TimingProtocol(rounds=1, warmups=10, runs=50, min_time_s=0.5, seed=number)
        turns = [("host", host), ("phone", phone)]
        for which, device in turns if number % 2 == 0 else reversed(turns):
            medians[which].append(device.time_models([job], protocol)[0].latency_us())
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
    parser.add_argument("--device", help="another ADB daemon on this machine: HOST:PORT")
    parser.add_argument("--models", default=NETWORKS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=RAW)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()

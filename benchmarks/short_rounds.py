"""How to share the same seconds between rounds: few long ones or many short ones, for original against pruned network.

    python benchmarks/short_rounds.py --run RUN [--repeats 4] [--json] [--raw FILE]

Both protocols time the networks of a finished run on this machine, in turn. What counts is how wide the interval of the
speed-up is, and how far the medians' quotient is from the lower quartiles': nothing on a steady clock.
The raw result is benchmarks/raw/short_rounds.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

from provenance import provenance

from amc_mobile.cli.benching import protocol_of
from amc_mobile.cli.console import progress_line
from amc_mobile.device.host import HostDevice
from amc_mobile.profile.compare import compare
from amc_mobile.runs import RunFolder, write_json
from amc_mobile.sections.bench import BenchConfig

HERE = Path(__file__).parent
PROTOCOLS = {
    "few long rounds": BenchConfig(rounds=9, warmups=10, runs=50, min_time_s=0.5),
    "many short rounds": BenchConfig(),
}


def timed(folder: RunFolder, name: str, repeat: int) -> dict[str, Any]:
    """One comparison under one protocol."""
    models = [path.read_bytes() for path in (folder.original_onnx, folder.model_onnx)]
    begun = time.monotonic()
    with progress_line(f"{name} {repeat}") as progress:
        found = compare(HostDevice(), *models, protocol_of(PROTOCOLS[name], repeat), None, progress)
    low, high = found.speedup_ci
    before, after = (statistics.median(each.round_medians_us()) for each in (found.original, found.pruned))
    return {
        "protocol": name,
        "rounds": PROTOCOLS[name].rounds,
        "seconds": round(time.monotonic() - begun, 1),
        "speedup": found.speedup,
        "interval": (low, high),
        "width": (high - low) / found.speedup,
        "medians_off": before / after / found.speedup - 1.0,
        "original_us": found.latency_before_us,
    }


def main() -> None:
    """Times, prints, writes the raw result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="a finished run folder")
    parser.add_argument("--repeats", type=int, default=4, help="comparisons under each protocol")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--raw", type=Path, default=HERE / "raw" / "short_rounds.json")
    arguments = parser.parse_args()
    folder = RunFolder(arguments.run)
    rows = [timed(folder, name, repeat) for repeat in range(arguments.repeats) for name in PROTOCOLS]
    found = {**provenance(), "rows": rows}
    write_json(arguments.raw, found)
    if arguments.json:
        print(json.dumps(found))
        return
    for row in rows:
        low, high = row["interval"]
        print(
            f"{row['protocol']:<18} {row['seconds']:>5.1f} s  {row['speedup']:.3f} ({low:.3f} to {high:.3f})  "
            f"width {row['width']:.1%}  medians {row['medians_off']:+.1%}  original {row['original_us'] / 1000:.2f} ms"
        )


if __name__ == "__main__":
    main()

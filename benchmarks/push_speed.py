"""How fast a file gets to a phone: our transports against the real adb and against adb-shell's own push.

    python benchmarks/push_speed.py [--json] [--packages FOLDER] [--megabytes 100] [--rounds 7]

The daemon is Debian's real adbd and the client its real adb, unpacked (not installed) under FOLDER; `make test-phone`
puts them where they are looked for by default. They run in a network of their own, since that adbd lets everybody in.
In each round every contestant pushes the same random bytes over loopback to the same daemon, in rotating order; random,
because weights hardly compress. What counts is the median of the rounds' ratios to the better of adb's two ways, with
and without compression, by the time that adb itself reports.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from real_adbd import ADDRESS, DAEMON_PORT, PACKAGES, adbd, inside, program, started

from amc_mobile.device.machine import cpu_model
from amc_mobile.runs import write_json
from android_bench.adb import Adb, Address

RAW = Path(__file__).parent / "raw" / "push_speed.json"
SERVER_PORT = 15_037
_REPORT = re.compile(rb"\((\d+) bytes in ([\d.]+)s\)")

Push = Callable[[Path], float]  # of the local file; its seconds


def main() -> None:
    """Plays the rounds in a network of its own, writes the raw file and prints the ratios."""
    arguments = _arguments()
    if arguments.inside:
        print(json.dumps(measured(arguments)))
        return
    found = inside(__file__, sys.argv[1:])
    write_json(arguments.out, found)
    if arguments.json:
        print(json.dumps({key: value for key, value in found.items() if key != "rounds_s"}))
        return
    for name, row in found["contestants"].items():
        print(f"{name:<26} {row['megabytes_per_s']:7.0f} MB/s   {row['of_adb']:5.2f} of adb's")


def measured(arguments: argparse.Namespace) -> dict[str, Any]:
    """Starts the daemon and adb's server, and plays the rounds."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.environ |= {"HOME": str(folder), "ANDROID_ADB_SERVER_PORT": str(SERVER_PORT), "ADB_MDNS": "0"}
        adb = program(arguments.packages, "adb")
        stack.enter_context(adbd(arguments.packages))
        stack.enter_context(started([*adb, "server", "nodaemon"], SERVER_PORT))
        subprocess.run([*adb, "connect", ADDRESS], check=True, capture_output=True)
        version = subprocess.run([*adb, "version"], check=True, capture_output=True, text=True).stdout.splitlines()[1]
        local, remote = folder / "local", folder / "remote"
        local.write_bytes(os.urandom(arguments.megabytes * 1_000_000))
        rounds = played(contestants(adb, str(remote)), local, remote, arguments.rounds)
    found = summary(rounds, arguments.megabytes)
    return found | {"rounds": arguments.rounds, "adb": version, "machine": cpu_model(), "rounds_s": rounds}


def contestants(adb: list[str], remote: str) -> dict[str, Push]:
    """Everybody who pushes, each over connections of its own that are open before the clock starts."""
    from adb_shell.adb_device import AdbDeviceTcp

    plain = AdbDeviceTcp("127.0.0.1", DAEMON_PORT, default_transport_timeout_s=60.0)
    plain.connect()
    direct, served = Adb(Address("tcp", ADDRESS)), Adb(Address("server", ADDRESS))
    for ours in (direct, served):
        ours.shell("true", timeout_s=20)

    def by_adb(*options: str) -> Push:
        command = [*adb, "-s", ADDRESS, "push", *options]
        return lambda local: _reported([*command, str(local), remote])

    def by_us(ours: Adb) -> Push:
        return lambda local: _timed(lambda data: ours.push(data, remote), local.read_bytes())

    return {
        "adb": by_adb(),
        "adb, no compression": by_adb("-Z"),
        "ours, direct": by_us(direct),
        "ours, through its server": by_us(served),
        "adb-shell": lambda local: _timed(
            lambda data: plain.push(io.BytesIO(data), remote, read_timeout_s=60.0), local.read_bytes()
        ),
    }


def played(pushes: dict[str, Push], local: Path, remote: Path, rounds: int) -> dict[str, list[float]]:
    """Seconds of each contestant in each round, after one round that does not count. What arrived is compared."""
    seconds: dict[str, list[float]] = {name: [] for name in pushes}
    data, names = local.read_bytes(), list(pushes)
    for number in range(rounds + 1):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            remote.unlink(missing_ok=True)
            took_s = pushes[name](local)
            assert remote.read_bytes() == data, name
            if number:
                seconds[name].append(took_s)
    return seconds


def summary(rounds: dict[str, list[float]], megabytes: int) -> dict[str, Any]:
    """Medians, and the medians of the ratios of throughputs to adb's better way in the same round."""
    best = [min(pair) for pair in zip(rounds["adb"], rounds["adb, no compression"], strict=True)]
    return {
        "megabytes": megabytes,
        "contestants": {
            name: {
                "megabytes_per_s": megabytes / statistics.median(seconds),
                "of_adb": statistics.median(theirs / each for theirs, each in zip(best, seconds, strict=True)),
                "of_adb_least": min(theirs / each for theirs, each in zip(best, seconds, strict=True)),
            }
            for name, seconds in rounds.items()
        },
    }


def _timed(act: Callable[[bytes], object], data: bytes) -> float:
    began = time.perf_counter()
    act(data)
    return time.perf_counter() - began


def _reported(command: list[str]) -> float:
    """The time that adb says the transfer took, without its own start."""
    said = subprocess.run(command, check=True, capture_output=True)
    found = _REPORT.search(said.stdout + said.stderr)
    assert found, said
    return float(found[2])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=Path, default=PACKAGES, help="where Debian's adb and adbd are unpacked")
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=RAW)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()

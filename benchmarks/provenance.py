"""What a raw result says of itself: the command that made it, the commit, the machine, when, and for how long."""

from __future__ import annotations

import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from amc_mobile.device.machine import cores, cpu_model

HERE = Path(__file__).parent
_STARTED = time.monotonic()
_SOURCES = ("--", ":(top)", ":(top,exclude)benchmarks/raw")  # raw results do not change what is measured
_PLACES = {
    "--data": "FOLDER",
    "--work": "FOLDER",
    "--run": "FOLDER",
    "--plain20": "FILE",
    "--raw": None,
    "--table": "FILE",
}


def provenance() -> dict[str, Any]:
    """Facts for the top of a raw file. `seconds` are those of this process alone: a resumed benchmark took longer."""
    return {
        "command": command(sys.argv),
        "commit": _git("rev-parse", "--short", "HEAD") + ("+" if _git("status", "--porcelain", *_SOURCES) else ""),
        "machine": machine(),
        "python": platform.python_version(),
        "date": datetime.now(UTC).date().isoformat(),
        "seconds": round(time.monotonic() - _STARTED),
    }


def machine() -> str:
    """What this process runs on: processor, cores, and the GPU if there is one."""
    words = [cpu_model(), f"{len(cores())} cores"]
    return ", ".join([*words, torch.cuda.get_device_name()] if torch.cuda.is_available() else words)


def command(argv: list[str]) -> str:
    """The command line without this machine's paths.

    >>> command(["/somewhere/benchmarks/rules.py", "--data", "/here", "--seeds", "3"])
    'python benchmarks/rules.py --data FOLDER --seeds 3'
    """
    words, rest = [f"benchmarks/{Path(argv[0]).name}"], iter(argv[1:])
    for word in rest:
        if word in _PLACES:
            next(rest, None)
            words += [] if _PLACES[word] is None else [word, str(_PLACES[word])]
        else:
            words.append(word)
    return " ".join(["python", *words])


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=HERE, capture_output=True, text=True, check=False).stdout.strip()

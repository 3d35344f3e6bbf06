"""A small search in a process of its own, which can be killed at any of its writes."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from amc_mobile.runs import RunFolder
from amc_mobile.search.run import search
from amc_mobile.sections.search import SearchConfig
from amc_mobile.types import Budget

from .networks import Separable, chain, macs

CONFIG = SearchConfig(
    episodes=24, warmup_episodes=4, random_policies=2, sensitivity_points=2, hidden=8, batch_size=8, reward="kl"
)


def run(root: Path, kill_at: int | None = None, *, after: bool = False) -> None:
    """Searches in the folder. SIGKILLs itself just before or after write number `kill_at` is on the disk."""
    if kill_at is not None:
        _arm(kill_at, after)
    graph = chain([16, 32, 32])
    limit = 0.5 * macs(graph)(graph.full().kept)
    search(graph, {}, Separable(graph, [3, 0.5, 1]), CONFIG, [Budget("macs", limit)], 0, RunFolder(root))


def _arm(kill_at: int, after: bool) -> None:
    sync, writes = os.fsync, 0

    def counting(descriptor: int) -> None:
        nonlocal writes
        writes += 1
        if writes == kill_at and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        sync(descriptor)
        if writes == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    os.fsync = counting

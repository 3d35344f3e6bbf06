"""A latency table, measured, written, and refused if it is too wrong; for a run folder or for a file of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from amc_mobile.cli.console import note
from amc_mobile.errors import AmcError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from amc_mobile.config import RunConfig
    from amc_mobile.cost.table import LatencyTable
    from amc_mobile.device.protocol import Device, Progress
    from amc_mobile.graph.traced import TracedGraph
    from amc_mobile.profile.campaign import Chunk, Plan
    from amc_mobile.profile.measuring import Watch


def measure_table(
    traced: TracedGraph,
    device: Device,
    config: RunConfig,
    path: Path,
    checkpoint: Path,
    progress: Progress,
    watch: Watch | None = None,
) -> None:
    """Writes the table to `path`. An interrupted measurement goes on from the checkpoint.

    The measurements behind a refused table are set aside: with `profile.force` they are used, else made anew.
    Raises: DeviceError; TableError or UnstableError for a table above `profile.max_error`.
    """
    from amc_mobile.profile.profiler import profile

    aside = refused(checkpoint)
    if config.profile.force and aside.is_file():
        aside.replace(checkpoint)
    table = profile(
        traced,
        device,
        config.profile,
        seed=config.seed,
        min_keep_ratio=config.profile_widths().min_keep_ratio,
        round_to=config.profile_widths().round_to,
        progress=progress,
        watch=watch or told_rounds(),
        checkpoint=checkpoint,
    )
    for reason in disturbances(table):
        note(f"   profile  {reason}")
    table.save(path)
    try:
        table.refuse(config.profile.max_error, force=config.profile.force)
    except AmcError:
        checkpoint.replace(aside)
        raise


def told_rounds(stage: str = "profile") -> Watch:
    """Says, whenever a round of a campaign is complete, how steady it was."""
    from amc_mobile.profile.campaign import examine

    told: set[int] = set()

    def watch(plan: Plan, chunks: Sequence[Chunk]) -> None:
        size = len(plan.chunks(0))
        if len(chunks) % size or len(chunks) // size in told:
            return
        told.add(len(chunks) // size)
        number, state = list(examine(chunks).items())[-1]
        load = "" if state.load is None else f", other programs kept {state.load:.1f} cores busy"
        again = ": it is measured again" if state.reason and plan.next_chunk(chunks) is not None else ""
        note(f"{stage:>10}  round {number + 1} of {plan.rounds}: the clock drifted by {state.drift:.1%}{load}{again}")

    return watch


def disturbances(table: LatencyTable) -> list[str]:
    """One line for every round that something disturbed, and one if other programs were busy throughout."""
    from amc_mobile.profile.campaign import LOAD

    used = {str(number) for number in table.evidence.get("rounds_used", ())}
    loads = [load for load in table.evidence.get("load", {}).values() if load is not None]
    always = min(loads, default=0.0)
    lines = [f"other programs kept {always:.1f} cores busy all the time: close them"] if always > LOAD else []
    return lines + [
        f"round {int(number) + 1} was disturbed ({reason}) and {'used all the same' if number in used else 'left out'}"
        for number, reason in table.evidence.get("disturbed", {}).items()
    ]


def refused(checkpoint: Path) -> Path:
    """Where the measurements behind a refused table are kept."""
    return checkpoint.with_suffix(".refused")

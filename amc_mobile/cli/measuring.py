"""A latency table, measured, written, and refused if it is too wrong; for a run folder or for a file of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from amc_mobile.cli.console import note
from amc_mobile.errors import AmcError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from amc_mobile.config import RunConfig
    from amc_mobile.cost.table import LatencyTable
    from amc_mobile.device.protocol import Device, Progress
    from amc_mobile.graph.traced import TracedGraph
    from amc_mobile.profile.campaign import Chunk, Plan
    from amc_mobile.profile.measuring import Watch


def measure_table(
    traced: TracedGraph, device: Device, config: RunConfig, path: Path, checkpoint: Path, progress: Progress
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
        watch=told_rounds(),
        checkpoint=checkpoint,
    )
    for reason in disturbances(table):
        note(f"   profile  {reason}")
    try:
        table.refuse(config.profile.max_error, force=config.profile.force)
    except AmcError:
        checkpoint.replace(aside)
        if not path.is_file():  # to be looked at; but a table that was good enough is not lost to it
            table.save(path)
        raise
    table.save(path)


def told_rounds(stage: str = "profile") -> Watch:
    """Says how steady each round of a campaign was when it is complete, and what became of chunks measured again."""
    from amc_mobile.profile.campaign import examine

    def watch(plan: Plan, chunks: Sequence[Chunk]) -> None:
        per_round, states = len(plan.chunks(0)), examine(plan, chunks)
        if len(chunks) > plan.size:
            state = states[-1]
            what = f"round {chunks[-1].round + 1}, part {chunks[-1].index + 1} was measured again"
            note(f"{stage:>10}  {what}: {state.reason or 'steady now'}")
        elif len(chunks) % per_round == 0:
            part = states[-per_round:]
            drift = max((state.drift for state in part), key=abs)
            loads = [state.load for state in part if state.load is not None]
            load = f", other programs kept {max(loads):.1f} cores busy" if loads else ""
            off = sum(bool(state.reason) for state in part)
            again = f"; {off} of {per_round} parts were disturbed" if off else ""
            note(f"{stage:>10}  round {chunks[-1].round + 1} of {plan.rounds}: clock {drift:+.1%}{load}{again}")

    return watch


def disturbances(table: LatencyTable) -> list[str]:
    """One line for every round in which something was disturbed, and one if other programs were busy throughout."""
    from amc_mobile.profile.campaign import LOAD

    parts = table.evidence.get("steadiness", ())
    always = min((part["load"] for part in parts if part["load"] is not None), default=0.0)
    lines = [f"other programs kept {always:.1f} cores busy all the time: close them"] if always > LOAD else []
    return lines + [
        f"round {number + 1} was disturbed: {text}" for number, text in disturbed_rounds(table.evidence).items()
    ]


def disturbed_rounds(evidence: Mapping[str, Any]) -> dict[int, str]:
    """By round what disturbed it, and what was done about it."""
    found: dict[int, list[dict[str, Any]]] = {}
    for part in evidence.get("steadiness", ()):
        if part["reason"]:
            found.setdefault(part["round"], []).append(part)
    lines = {}
    for number, parts in found.items():
        used = sum(part["used"] for part in parts)
        done = f"{used} of them corrected and used" if used else "left out and measured again"
        lines[number] = f"{parts[0]['reason']}; {len(parts)} part(s), {done}"
    return lines


def refused(checkpoint: Path) -> Path:
    """Where the measurements behind a refused table are kept."""
    return checkpoint.with_suffix(".refused")

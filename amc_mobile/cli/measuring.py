"""A latency table, measured, written, and refused if it is too wrong; for a run folder or for a file of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from amc_mobile.errors import AmcError

if TYPE_CHECKING:
    from amc_mobile.config import RunConfig
    from amc_mobile.device.protocol import Device, Progress
    from amc_mobile.graph.traced import TracedGraph


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
        checkpoint=checkpoint,
    )
    table.save(path)
    try:
        table.refuse(config.profile.max_error, force=config.profile.force)
    except AmcError:
        checkpoint.replace(aside)
        raise


def refused(checkpoint: Path) -> Path:
    """Where the measurements behind a refused table are kept."""
    return checkpoint.with_suffix(".refused")

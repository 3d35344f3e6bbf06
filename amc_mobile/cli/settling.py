"""Closes the loop: the chosen network on the clock; a table that was off is repaired, the search finished on it.

Every step is written to settled.json before the next begins, so that a killed run goes on where it was: time the chosen
network; if the table was off, time neighbours of it too and fit the table again; finish the search on the repaired
table. What is replaced moves to the folder `before/`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from amc_mobile.cli.console import note
from amc_mobile.cli.decisions import search_on
from amc_mobile.cost.widths import width_grid
from amc_mobile.runs import read_json, read_trials, write_bytes, write_json
from amc_mobile.types import Policy, TableCheck, TimingProtocol

if TYPE_CHECKING:
    from pathlib import Path

    from amc_mobile.cli.session import Session
    from amc_mobile.cost.table import LatencyTable
    from amc_mobile.device.protocol import Progress

_ROUNDS = 7  # in which the chosen network and the original are timed
_NEIGHBOURS = 3  # networks near the chosen one that are timed with it
_CHANGED = 0.3  # of a neighbour's groups


def settle(session: Session, progress: Progress) -> None:
    """settled.json: what the clock said of the chosen network; table and search anew where the table was off."""
    if (reason := _why_not(session)) is not None:
        note(f"    settle  the chosen network is not timed: {reason}")
        write_json(session.folder.settled, {"checks": [], "skipped": reason})
        return
    checks, settings = _read(session), session.config.profile
    while not checks or checks[-1].repaired or not _good_enough(checks, settings.tolerance, settings.repairs):
        number = len(checks)
        if checks and not checks[-1].repaired:
            checks[-1] = _repair(session, checks[-1], number, progress)
        elif checks and not _searched(session, number):
            _search_again(session, number, progress)
            continue
        else:
            checks.append(_check(session, progress))
        write_json(session.folder.settled, {"checks": checks, "skipped": ""})


def replaced_files(root: Path) -> tuple[Path, ...]:
    """What repairs have put aside in a run folder."""
    return tuple(sorted((root / "before").glob("*")))


def repair_checkpoint(root: Path) -> Path:
    """Where measurements pile up while a table is repaired."""
    return root / "settle.partial"


def _good_enough(checks: list[TableCheck], tolerance: float, repairs: int) -> bool:
    return abs(checks[-1].error) <= tolerance or len(checks) > repairs


def _why_not(session: Session) -> str | None:
    table = session.table()
    if table is None or session.config.profile.repairs == 0:
        return "the settings say so"
    if table.device.key() != session.device.info().key():
        return f"the table is of {table.device.model}, which is not here"
    if "chunks" not in table.evidence:
        return "the table does not hold what it was made from"
    return None


def _read(session: Session) -> list[TableCheck]:
    if not session.folder.settled.is_file():
        return []
    stored = read_json(session.folder.settled)["checks"]
    return [TableCheck(**{**check, "kept": tuple(check["kept"])}) for check in stored]


def _check(session: Session, progress: Progress) -> TableCheck:
    """The chosen network and the original, interleaved; both on the table's clock."""
    from amc_mobile.profile.compare import compare
    from amc_mobile.profile.predict import original_us
    from amc_mobile.profile.variants import Variants

    table, network, settings = _table(session), session.traced.network, session.config.profile
    policy = Policy(tuple(read_json(session.folder.search)["best"]["kept"]))
    variants = Variants(session.traced, session.device.info())
    protocol = TimingProtocol(
        _ROUNDS, settings.warmups, settings.runs, settings.min_time_s / 2, seed=session.config.seed
    )
    price_us = table.latency_us(network, policy.kept)
    found = compare(
        session.device,
        variants.model(network.full()),
        variants.model(policy),
        protocol,
        price_us,
        progress,
        reference_us=original_us(table, network),
    )
    measured_us = found.latency_after_us / (found.drift or 1.0)
    return TableCheck(policy.kept, price_us, measured_us, price_us / measured_us - 1.0)


def _repair(session: Session, check: TableCheck, number: int, progress: Progress) -> TableCheck:
    """The table, fitted again with the chosen network and its neighbours among the carriers."""
    from amc_mobile.profile.profiler import extend

    folder, before = session.folder, _table(session)
    note(f"    settle  the table was off by {check.error:+.1%} on the chosen network: it is repaired")
    if len(before.evidence.get("further", ())) < number:  # else a killed run has done it already
        _put_aside(folder.root, number, (folder.table, folder.table.with_suffix(".csv")), copy=True)
        policies = _neighbourhood(session, check, number)
        checkpoint = repair_checkpoint(folder.root)
        config = session.config.profile
        table = extend(
            before, session.traced, session.device, policies, config, progress=progress, checkpoint=checkpoint
        )
        table.save(folder.table)
        checkpoint.unlink(missing_ok=True)
    after = _table(session)
    return replace(
        check,
        repaired=True,
        added=1 + _NEIGHBOURS,
        mape_before=check.mape_before or before.validation.mape,
        mape_after=after.validation.mape,
    )


def _neighbourhood(session: Session, check: TableCheck, number: int) -> dict[str, Policy]:
    """The chosen network, and some that are a step or two from it in some groups."""
    rng, rule = np.random.default_rng([session.config.seed, number]), session.config.search_widths()
    policies = {"chosen": Policy(check.kept)}
    for place in range(_NEIGHBOURS):
        kept = list(check.kept)
        for group in session.traced.network.prunable():
            if rng.random() < _CHANGED:
                grid = width_grid(group.channels, rule.min_keep_ratio, rule.round_to)
                here = min(range(len(grid)), key=lambda step, width=kept[group.index]: abs(grid[step] - width))  # type: ignore[misc]
                kept[group.index] = grid[int(np.clip(here + rng.choice([-2, -1, 1, 2]), 0, len(grid) - 1))]
        policies[f"neighbour {place}"] = Policy(tuple(kept))
    return policies


def _searched(session: Session, number: int) -> bool:
    """Whether the search that follows the repair of this number is finished."""
    folder = session.folder
    return folder.search.is_file() and _begun(session) == str(number)


def _begun(session: Session) -> str:
    """The number of the repair that the search in the folder follows; empty for the first search."""
    checkpoint = session.folder.checkpoint
    return str(read_json(checkpoint)["settings"].get("again", "")) if checkpoint.is_file() else ""


def _search_again(session: Session, number: int, progress: Progress) -> None:
    from amc_mobile.search.again import from_trials

    folder = session.folder
    if _begun(session) != str(number):
        _put_aside(folder.root, number, (folder.search, folder.trials, folder.probes, folder.checkpoint))
    former = read_trials(folder.root / "before" / f"{number}.{folder.trials.name}")
    search_on(session, progress, context={"again": str(number)}, agent=from_trials(former))


def _put_aside(root: Path, number: int, files: tuple[Path, ...], *, copy: bool = False) -> None:
    """Moves files that are there to `before/`; the checkpoint last, for it says what the others belong to."""
    (root / "before").mkdir(exist_ok=True)
    for path in files:
        if path.is_file():
            aside = root / "before" / f"{number}.{path.name}"
            if copy:
                write_bytes(aside, path.read_bytes())
            else:
                path.replace(aside)


def _table(session: Session) -> LatencyTable:
    table = session.table()
    if table is None:
        raise AssertionError("settle runs where there is a table")
    return table

"""Closes the loop: the chosen network on the clock; a table that was off is repaired, the search finished on it.

Every step is written down before the next begins, so that a run that is killed anywhere goes on where it was: time the
chosen network (settled.json); if the table was off, time neighbours of it too and fit the table again (the former one
is copied to `before/` first); finish the search on the repaired table, in the folder `again/`; put its files in the
place of the former ones, which are copied to `before/`, too.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from amc_mobile.cli.console import note
from amc_mobile.cli.decisions import search_on, write_front
from amc_mobile.cli.explaining import winner
from amc_mobile.cli.inputs import content
from amc_mobile.cli.refining import is_refined, refine
from amc_mobile.cost.widths import width_grid
from amc_mobile.errors import TableError
from amc_mobile.measurements import TableCheck
from amc_mobile.runs import RunFolder, read_json, read_trials, write_bytes, write_json
from amc_mobile.types import Policy

if TYPE_CHECKING:
    from pathlib import Path

    from amc_mobile.cli.session import Session
    from amc_mobile.cost.table import LatencyTable
    from amc_mobile.device.protocol import Progress

_ROUNDS = 31  # in which the chosen network and the original are timed, each of them like a turn of the table's
_PATIENCE = 3  # times that they are, until the clock is the table's
_NEIGHBOURS = 3  # networks near the chosen one that are timed with it
_ATTEMPTS = 50  # to draw them; a small network may have fewer
_CHANGED = 0.3  # of a neighbour's groups
_RULES = frozenset({"uniform", "shallow", "deep"})  # agents that ask for one network each


def settle(session: Session, progress: Progress) -> None:
    """settled.json: what the clock said of the chosen network; table and search anew where the table was off."""
    _mend(session.folder, len(_read(session)))
    if (reason := _why_not(session)) is not None:
        note(f"    settle  the chosen network is not timed: {reason}")
        write_json(session.folder.settled, {"checks": [], "skipped": reason})
        return
    checks, settings = _read(session), session.config.profile
    while not checks or checks[-1].repaired or not _good_enough(checks, settings.tolerance, settings.repairs):
        number = len(checks)
        if checks and not checks[-1].repaired:
            checks[-1] = _repair(session, checks[-1], number, progress)
        elif checks and not _searched(session):
            _search_again(session, number, progress)
            continue
        elif session.config.refines and not is_refined(session.folder):
            refine(session, progress)
            continue
        else:
            checks.append(_check(session, progress))
        write_json(session.folder.settled, {"checks": checks, "skipped": ""})


def first_table(folder: RunFolder) -> Path:
    """The table as it was measured, before a search's networks were added to it: what another search begins with."""
    former = _kept(folder.root, 1, folder.table)
    return former if former.is_file() else folder.table


def leftovers(root: Path) -> tuple[Path, ...]:
    """What settling may have put into folders of its own."""
    return tuple(sorted([*(root / "before").glob("*"), *(root / "again").glob("*")]))


def repair_checkpoint(root: Path) -> Path:
    """Where measurements pile up while a table is repaired."""
    return root / "settle.partial"


def _good_enough(checks: list[TableCheck], tolerance: float, repairs: int) -> bool:
    """Whether nothing is to be repaired: the table is right, was repaired often, or cannot be judged on this clock."""
    last = checks[-1]
    if last.other_clock and abs(last.error) > tolerance:
        off = f"the clock is {last.drift - 1:+.0%} off the table's"
        note(f"    settle  {off}: the table is left as it is; see `amc doctor`")
        return True
    return abs(last.error) <= tolerance or len(checks) > repairs


def _why_not(session: Session) -> str | None:
    table = session.table()
    if table is None or session.config.profile.repairs == 0:
        return "the settings say so"
    if session.config.profile.elsewhere or table.device.key() != session.device.info().key():
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
    """What the clock says; on a disturbed one it is asked again, and the least disturbed answer counts."""
    checks = [_timed(session, progress)]
    while checks[-1].other_clock and len(checks) < _PATIENCE:
        note(f"    settle  the clock is {checks[-1].drift - 1:+.0%} off the table's: timed again")
        checks.append(_timed(session, progress))
    return min(checks, key=lambda check: abs(check.drift - 1.0))


def _timed(session: Session, progress: Progress) -> TableCheck:
    """The chosen network and the original, interleaved; both on the table's clock."""
    from amc_mobile.profile.compare import compare
    from amc_mobile.profile.measuring import turns_of
    from amc_mobile.profile.predict import original_us
    from amc_mobile.profile.variants import Variants

    table, network = _table(session), session.traced.network
    policy = winner(session.folder, session.config)
    variants = Variants(session.traced, session.device.info())
    price_us = table.latency_us(network, policy.kept)
    found = compare(
        session.device,
        variants.model(network.full()),
        variants.model(policy),
        replace(turns_of(session.config.profile, session.config.seed), rounds=_ROUNDS),
        price_us,
        progress,
        reference_us=original_us(table, network),
    )
    drift = found.drift or 1.0
    measured_us = found.latency_after_us / drift
    return TableCheck(policy.kept, price_us, measured_us, price_us / measured_us - 1.0, drift=drift)


def _repair(session: Session, check: TableCheck, number: int, progress: Progress) -> TableCheck:
    """The table, fitted again with the chosen network and its neighbours among the carriers."""
    from amc_mobile.cost.table import LatencyTable
    from amc_mobile.profile.profiler import extend

    folder, settings = session.folder, session.config.profile
    note(f"    settle  the table was off by {check.error:+.1%} on the chosen network: it is repaired")
    _keep(folder.root, number, (folder.table.with_suffix(".csv"), folder.table))
    former = LatencyTable.load(_kept(folder.root, number, folder.table))
    after = _loaded(folder.table)
    if after is None or len(after.evidence.get("further", ())) <= len(former.evidence.get("further", ())):
        checkpoint = repair_checkpoint(folder.root)
        policies = _neighbourhood(session, check, number)
        after = extend(
            former, session.traced, session.device, policies, settings, progress=progress, checkpoint=checkpoint
        )
        after.save(folder.table)
        checkpoint.unlink(missing_ok=True)
    if after.validation.mape > settings.max_error:
        note(f"    settle  the repaired table is off by {after.validation.mape:.1%} by its own account")
    return replace(
        check,
        repaired=True,
        added=len(after.evidence["further"][-1]["networks"]) - 1,
        mape_before=former.validation.mape,
        mape_after=after.validation.mape,
    )


def _mend(folder: RunFolder, number: int) -> None:
    """Brings the table back that a repair was about to replace, if a kill or a full disk left half of another."""
    parts = [(path, _kept(folder.root, number, path)) for path in (folder.table.with_suffix(".csv"), folder.table)]
    if all(kept.is_file() for _, kept in parts) and _loaded(folder.table) is None:
        for path, kept in parts:
            write_bytes(path, kept.read_bytes())


def _loaded(path: Path) -> LatencyTable | None:
    """The table, or nothing if a kill left half of it."""
    from amc_mobile.cost.table import LatencyTable

    try:
        return LatencyTable.load(path)
    except TableError:
        return None


def _neighbourhood(session: Session, check: TableCheck, number: int) -> dict[str, Policy]:
    """The chosen network, and some that are a step or two from it in some groups."""
    rng, rule = np.random.default_rng([session.config.seed, number]), session.config.search_widths()
    policies = {"chosen": Policy(check.kept)}
    for _ in range(_ATTEMPTS):
        kept = list(check.kept)
        for group in session.traced.network.prunable():
            if rng.random() < _CHANGED:
                grid = width_grid(group.channels, rule.min_keep_ratio, rule.round_to)
                here = min(range(len(grid)), key=lambda step, width=kept[group.index]: abs(grid[step] - width))  # type: ignore[misc]
                kept[group.index] = grid[int(np.clip(here + rng.choice([-2, -1, 1, 2]), 0, len(grid) - 1))]
        if Policy(tuple(kept)) not in policies.values():
            policies[f"neighbour {len(policies)}"] = Policy(tuple(kept))
        if len(policies) > _NEIGHBOURS:
            break
    return policies


def _searched(session: Session) -> bool:
    """Whether the search on the repaired table is finished, and in its place."""
    folder, again = session.folder, _again(session)
    if again.search.is_file() or not folder.checkpoint.is_file():
        return False
    return bool(read_json(folder.checkpoint)["settings"].get("again") == content(folder.table))


def _search_again(session: Session, number: int, progress: Progress) -> None:
    """Searches in `again/`, then moves its files into the run folder, search.json last: it says that all are there."""
    from amc_mobile.search.again import from_trials

    folder, again = session.folder, _again(session).create()
    files = (folder.checkpoint, folder.probes, folder.trials, folder.search)
    if not again.search.is_file():
        _keep(folder.root, number, files)
        former = read_trials(_kept(folder.root, number, folder.trials))
        name = session.config.search.agent  # a rule asks for one network: it is asked anew
        agent = None if name in _RULES else from_trials(former, improve=name == "auto")
        search_on(session, progress, again, context={"again": content(folder.table)}, agent=agent)
    if not again.probes.is_file() and again.trials.is_file():
        folder.probes.unlink(missing_ok=True)
    for path in files:
        fresh = again.root / path.name
        if fresh.is_file():
            fresh.replace(path)
    for rest in again.root.glob("*"):
        rest.unlink()
    write_front(session)


def _again(session: Session) -> RunFolder:
    return RunFolder(session.folder.root / "again")


def _keep(root: Path, number: int, files: tuple[Path, ...]) -> None:
    """Copies files that are there to `before/`, once."""
    (root / "before").mkdir(exist_ok=True)
    for path in files:
        aside = _kept(root, number, path)
        if path.is_file() and not aside.is_file():
            write_bytes(aside, path.read_bytes())


def _kept(root: Path, number: int, path: Path) -> Path:
    return root / "before" / f"{number}.{path.name}"


def _table(session: Session) -> LatencyTable:
    table = session.table()
    if table is None:
        raise AssertionError("settle runs where there is a table")
    return table

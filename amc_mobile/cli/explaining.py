"""The front of a search, the trial that is cut, and why its layers are as wide as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amc_mobile.cli.budgets import budgets, search_settings, tables
from amc_mobile.cli.console import print_json, print_table
from amc_mobile.cli.refining import refined
from amc_mobile.errors import ConfigError
from amc_mobile.report import wording as say
from amc_mobile.runs import RunFolder, read_json, read_trials, write_json
from amc_mobile.types import Budget, Policy

if TYPE_CHECKING:
    from amc_mobile.cli.session import Session
    from amc_mobile.config import RunConfig
    from amc_mobile.search.front import Front, Point
    from amc_mobile.search.why import Reasons


def front_of(folder: RunFolder, config: RunConfig) -> Front:
    """The Pareto front of the run's trials."""
    from amc_mobile.search.front import front

    return front(read_trials(folder.trials), config.search.reward)


def chosen(session: Session) -> Policy:
    """The policy that is cut: of the trial `prune.point`, else of the winner, refined if the settings want it.

    Raises: ConfigError for no such trial.
    """
    point, folder = session.config.prune.point, session.folder
    if point is None:
        return winner(folder, session.config)
    trials = read_trials(folder.trials)
    if point >= len(trials):
        known = ", ".join(str(item.trial) for item in front_of(folder, session.config).points)
        raise ConfigError(
            f"{folder.root} has no trial {point}; --point takes one of 0..{len(trials) - 1}, best of {known}"
        )
    return Policy(trials[point].kept)


def winner(folder: RunFolder, config: RunConfig) -> Policy:
    """The policy that the search found, refined if the settings want it."""
    better = refined(folder) if config.refines else None
    return Policy(tuple(read_json(folder.search)["best"]["kept"])) if better is None else better


def decide(session: Session) -> Policy:
    """The policy that is cut; why.json says why it is as it is."""
    policy = chosen(session)
    write_json(session.folder.why, explain_run(session, policy))
    return policy


def explain_run(session: Session, policy: Policy) -> Reasons:
    """Why every group of the policy is as wide as it is."""
    from amc_mobile.search.budget import build_walls
    from amc_mobile.search.why import explain, read_curves

    priced, point = tables(session), session.config.prune.point
    settings = search_settings(session.config)
    network = session.network
    grids = build_walls(network, budgets(session), priced, settings).grids
    curves = read_curves(session.folder.sensitivity)
    better = ", refined" if session.config.refines and refined(session.folder) is not None else ""
    kept_by = f"the winner of the search{better}" if point is None else f"trial {point}, chosen by hand"
    return explain(network, policy.kept, grids, curves, priced, kept_by)


# --------------------------------------------------------------------------------------------------- for the terminal


def show_front(folder: RunFolder, config: RunConfig, as_json: bool) -> None:
    """Prints the front on stdout, cheapest first in the budget's own metric."""
    found = front_of(folder, config)
    if as_json:
        print_json(found)
        return
    result = read_json(folder.search)
    budget = Budget(**result["budget"])
    points = {point.trial: point for point in found.points}
    ordered = [points[index] for index in found.metrics.get(budget.key, ())]
    print_table([_front_heading(found), *(_front_row(point, found, result["best"]["index"]) for point in ordered)])
    others = len(points) - len(ordered)
    print(f"sorted by {_metric_name(budget.key)}; {others} more trials are on the front of another cost only (--json)")
    print(f"next    amc prune {folder.root} --point N, or amc export {folder.root} --point N --out FILE.onnx")


def _front_heading(found: Front) -> tuple[str, ...]:
    return ("point", "agent", _accuracy_name(found), *(_metric_name(name) for name in found.metrics), "")


def _front_row(point: Point, found: Front, winner: int) -> tuple[str, ...]:
    accuracy = say.signed(point.accuracy) if found.reward == "kl" else say.percent(point.accuracy)
    costs = (_in_metric(point, name) for name in found.metrics)
    row = (str(point.trial), point.agent, accuracy, *costs, "winner" if point.trial == winner else "")
    return tuple(say.plain_ascii(cell) for cell in row)


def _accuracy_name(found: Front) -> str:
    return "-KL" if found.reward == "kl" else say.ACCURACY_NAMES[found.reward]


def _metric_name(name: str) -> str:
    own, _, device = name.partition("@")
    return say.cost_name(own, device)  # type: ignore[arg-type]  # it is a Budget.key


def _in_metric(point: Point, name: str) -> str:
    own, _, device = name.partition("@")
    value: Any = point.cost.elsewhere_us[device] if device else getattr(point.cost, own)
    return say.in_metric(float(value), own)  # type: ignore[arg-type]


def show_reasons(session: Session, as_json: bool) -> None:
    """Prints on stdout why each group is as wide as it is, in the order of execution."""
    from amc_mobile.report.reasons import CAPTION, HEADING, reason_rows

    reasons = explain_run(session, chosen(session))
    if as_json:
        print_json(reasons)
        return
    rows = [HEADING, *(row.cells() for row in reason_rows(reasons))]
    print_table([tuple(map(say.plain_ascii, row)) for row in rows])
    print(say.plain_ascii(f"{CAPTION}. Widths of {reasons.kept_by}."))

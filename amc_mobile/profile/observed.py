"""What a table was made from, read back from its own evidence: nothing has to be measured again to fit it anew.

A table's evidence holds campaigns: the first with the carriers, and one for every time that more networks were added.
Each has the full network in it, which brings all of them to the clock of the first.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

import numpy as np

from amc_mobile.errors import TableError
from amc_mobile.profile.campaign import SENTINEL, Plan, Summary, summarise
from amc_mobile.profile.campaign_log import chunk_from_plain
from amc_mobile.profile.fit import Observations
from amc_mobile.types import Policy


def observe(evidence: Mapping[str, Any]) -> tuple[Observations, float]:
    """The observations behind a table, and the clock's noise. Raises: TableError if the evidence holds no raw times."""
    try:
        campaigns = [_summary(part) for part in (evidence, *evidence.get("further", ()))]
    except (KeyError, TypeError, ValueError) as error:
        raise TableError(
            f"this table does not say what it was made from ({error}): it cannot be fitted again; measure anew with "
            "`amc profile`"
        ) from error
    reference = campaigns[0][1].clock_us[SENTINEL]
    policies: dict[str, Policy] = {}
    clock: dict[str, float] = {}
    rows: dict[str, Mapping[Any, float]] = {}
    together: list[int] = []
    for number, (plan, summary) in enumerate(campaigns):
        factor = reference / summary.clock_us[SENTINEL]
        for label, policy in plan.policies.items():
            name = label if number == 0 else f"{label} of campaign {number}"
            if label == SENTINEL and number > 0:
                continue
            together.append(number)
            policies[name], clock[name] = policy, factor * summary.clock_us[label]
            rows[name] = {key: factor * time for key, time in summary.rows_us.get(label, {}).items()}
    noise = statistics.fmean(summary.noise_floor for _plan, summary in campaigns)
    return _observations(policies, clock, rows, tuple(together)), noise


def _observations(
    policies: Mapping[str, Policy],
    clock_us: Mapping[str, float],
    rows_us: Mapping[str, Mapping[Any, float]],
    together: tuple[int, ...],
) -> Observations:
    keys = dict.fromkeys(key for label in policies for key in rows_us.get(label, {}))
    return Observations(
        policies=tuple(policies.values()),
        clock_us=np.array([clock_us[label] for label in policies]),
        rows_us={key: np.array([rows_us[label].get(key, 0.0) for label in policies]) for key in keys},
        fixed=2,
        together=together,
    )


def _summary(part: Mapping[str, Any]) -> tuple[Plan, Summary]:
    policies = {label: Policy(tuple(kept)) for label, kept in part["networks"].items()}
    plan = Plan(policies, part["rounds_wanted"], part["seed"], part.get("reference_us"))
    return plan, summarise(plan, [chunk_from_plain(chunk) for chunk in part["chunks"]])

"""Random changes to the best policy so far: a few groups get noise, and one common factor brings the rest back."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from amc_mobile.search.budget import Walls, Widths
from amc_mobile.search.ddpg import truncated_normal
from amc_mobile.search.problem import Problem
from amc_mobile.sections.search import SearchConfig
from amc_mobile.trials import Trial

AGENT = "local"

_ATTEMPTS = 20


def improve(problem: Problem, rng: np.random.Generator) -> Trial:
    """Evaluates one neighbour of the best policy."""
    centre = problem.widths(problem.best())
    known = {problem.widths(trial) for trial in problem.trials}
    walls = problem.goal.beyond(problem.walls, problem.walls.cost(centre))
    return problem.evaluate(AGENT, "local", nearby(walls, centre, problem.config, known, rng))


def nearby(
    walls: Walls, centre: Widths, config: SearchConfig, known: Collection[Widths], rng: np.random.Generator
) -> Widths:
    """A policy on the budget near `centre`: truncated-normal noise on a few keep ratios, then one common factor.

    Few at a time, because most changes to a good policy harm it and many at once hide the one that helps. Draws again
    while the policy is already known, with ever more groups changing, so that small networks come to an end too.
    """
    before = walls.ratios(centre)
    for attempt in range(1, _ATTEMPTS + 1):
        changing = rng.random(len(centre)) < config.local_groups * attempt
        changing[rng.integers(len(centre))] = True
        after = [
            truncated_normal(float(ratio), config.local_sigma, rng) if changes else float(ratio)
            for ratio, changes in zip(before, changing, strict=True)
        ]
        proposal = walls.project([ratio * full for ratio, full in zip(after, walls.channels, strict=True)])
        widths = walls.carried_out(proposal)
        if widths not in known:
            break
    return widths

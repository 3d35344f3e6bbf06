"""A search finished again: the table was wrong about the winner and is repaired, so that the budget lies elsewhere.

What the first search learnt stays true, since accuracies do not depend on the table: its best policies are brought onto
the new budget, and the best of these is improved by random changes, unless the search was one agent's alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from amc_mobile.search import local
from amc_mobile.search.agents import Agent
from amc_mobile.search.problem import Problem
from amc_mobile.trials import Trial

_FORMER = 12  # of the best trials
_CHANGES = 0.1  # random changes, as a share of the first search's trials, and at least
_LEAST_CHANGES = 8


def from_trials(former: Sequence[Trial], *, improve: bool = True) -> Agent:
    """The agent that finishes a search with these trials, which were in the order of their evaluation."""

    def agent(problem: Problem) -> None:
        ranked = sorted(former, key=problem.goal.merit, reverse=True)
        best_of = {trial.agent: trial for trial in reversed(ranked)}  # of each agent, the best
        for name in sorted(best_of):
            _bring(problem, best_of[name], name)
        for trial in ranked[:_FORMER]:
            _bring(problem, trial, local.AGENT)
        rng = np.random.default_rng((problem.seed, len(former)))
        if not improve:
            return
        for _ in range(max(_LEAST_CHANGES, round(_CHANGES * len(former)))):
            local.improve(problem, rng)

    return agent


def _bring(problem: Problem, trial: Trial, agent: str) -> None:
    """The trial's policy on the budget of today, if it is not there yet."""
    widths = problem.walls.project(problem.widths(trial))
    known = {problem.widths(other) for other in problem.trials if other.agent == agent}
    if widths not in known:
        problem.evaluate(agent, "local" if agent == local.AGENT else "opponent", widths)

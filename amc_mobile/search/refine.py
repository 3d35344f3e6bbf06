"""The end of a search: its best policies are judged again, as they will be repaired, and the best of them is improved.

While it searches, every layer is repaired as if all others were whole; the network that ships is repaired once more
from what really arrives in its layers (prune/refresh.py), and that mends some policies more than others. So the last
policies are judged by an evaluator that refreshes each of them, which takes seconds. Not in the paper.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from amc_mobile.search import local
from amc_mobile.search.agents import Agent
from amc_mobile.search.problem import Problem
from amc_mobile.trials import Trial

_BEST = 4  # of all trials, beside the best of every agent


def from_trials(former: Sequence[Trial], evaluations: int) -> Agent:
    """The agent that begins with the best of these trials, and changes the best of them at random."""

    def agent(problem: Problem) -> None:
        ranked = sorted(former, key=problem.goal.merit, reverse=True)  # stable: of equals the first
        best_of = {trial.agent: trial for trial in reversed(ranked)}  # of each agent, the best
        for trial in (ranked[0], *(best_of[name] for name in sorted(best_of)), *ranked[1:_BEST]):
            widths = problem.widths(trial)
            if problem.walls.policy(widths).kept not in {other.kept for other in problem.trials}:
                problem.evaluate(trial.agent, "local" if trial.agent == local.AGENT else "opponent", widths)
        rng = np.random.default_rng((problem.seed, len(problem.walls.groups), 2))
        for _ in range(evaluations):
            local.improve(problem, rng)

    return agent

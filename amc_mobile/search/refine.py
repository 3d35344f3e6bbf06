"""The end of a search: its best policies are judged again, as they will be repaired, and the best of them is improved.

While it searches, every layer is repaired as if all others were whole; the network that ships is repaired once more
from what really arrives in its layers (prune/refresh.py), and that mends some policies more than others. So the last
policies are judged by an evaluator that refreshes each of them, which takes seconds. Not in the paper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from amc_mobile.search import guided, local
from amc_mobile.search.agents import Agent
from amc_mobile.search.problem import Problem
from amc_mobile.search.sensitivity import Curve
from amc_mobile.trials import Trial

_AGENTS = 6  # whose best policies are judged again


def from_trials(former: Sequence[Trial], curves: Mapping[str, Curve], evaluations: int) -> Agent:
    """The agent that begins with the best of these trials, then descends (guided.py) and ends with random changes.

    `curves` say what every group loses alone, repaired as the search repairs; the descent finds out how much more or
    less it is now. Without them there is no descent.
    """

    def agent(problem: Problem) -> None:
        best_of: dict[str, Trial] = {}  # of each agent, from the best of all on
        for trial in sorted(former, key=problem.goal.merit, reverse=True):  # stable: of equals the first
            best_of.setdefault(trial.agent, trial)
        for trial in list(best_of.values())[:_AGENTS]:
            widths = problem.widths(trial)
            if problem.walls.policy(widths).kept not in {other.kept for other in problem.trials}:
                problem.evaluate(trial.agent, "local" if trial.agent == local.AGENT else "opponent", widths)
        if problem.take_over(curves):
            guided.descend(problem, evaluations - problem.spent)
        rng = np.random.default_rng((problem.seed, len(problem.walls.groups), 2))
        for _ in range(evaluations):
            local.improve(problem, rng)

    return agent

"""The search as a gymnasium environment: one episode walks the groups and ends with a pruned, evaluated network.

Any agent that answers a preserve ratio can drive it; the walls keep every policy within the budget whatever it answers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from amc_mobile.search.budget import Walls, Widths
from amc_mobile.search.state import State, States
from amc_mobile.trials import Trial

Judge = Callable[[Widths], Trial]  # evaluates a finished policy


class PruningEnv(gymnasium.Env[State, NDArray[np.float32]]):
    """One decision per step: the preserve ratio of the next group, clipped to the walls and rounded to its grid.

    The reward is 0 until the last step, which has the policy evaluated without fine-tuning (He et al. 2018, sec. 3.3).
    `info["kept"]` is the width that was really taken; the last step adds `trial`: policy, costs, score. Nothing here is
    random: a seed changes only what `action_space.sample()` draws.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 - gymnasium's own name and shape

    def __init__(self, walls: Walls, states: States, judge: Judge) -> None:
        self.walls = walls
        self._states = states
        self._judge = judge
        self._decided: list[int] = []
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, (states.features,), np.float32)
        self.action_space = gymnasium.spaces.Box(0.0, 1.0, (1,), np.float32)

    @property
    def widths(self) -> Widths:
        """The widths decided so far in this episode."""
        return tuple(self._decided)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[State, dict[str, Any]]:
        """Starts an episode with the unpruned network. Returns the first state."""
        super().reset(seed=seed, options=options)
        self._decided = []
        return self._states(()), {}

    def step(self, action: NDArray[np.float32]) -> tuple[State, float, bool, bool, dict[str, Any]]:
        """Decides the next group. Returns state, reward, terminated, truncated (never), info."""
        kept = self.walls.choose(self._decided, float(action[0]))
        self._decided.append(kept)
        state = self._states(self._decided)
        if len(self._decided) < len(self.walls.groups):
            return state, 0.0, False, False, {"kept": kept}
        trial = self._judge(self.widths)
        return state, trial.reward, True, False, {"kept": kept, "trial": trial}

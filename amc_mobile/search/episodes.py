"""AMC's search: episodes of the DDPG agent (He et al. 2018), as published or with a warm start.

As published, the agent starts from nothing: episodes of constant noise while the replay fills, then decaying noise and
one update for each step, at the end one episode of the trained actor without noise. A warm start is our own addition:
policies that were evaluated before enter the replay, as if the agent had answered them; the actor imitates the best of
them, and learns from the first episode on: no warm-up, and noise that decays from the smaller `warm_sigma`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from amc_mobile.search.budget import Widths
from amc_mobile.search.ddpg import DDPG
from amc_mobile.search.env import PruningEnv
from amc_mobile.search.problem import Problem
from amc_mobile.search.state import State, States
from amc_mobile.trials import Phase, Trial

AGENT = "ddpg"

Act = Callable[[int, State], float]  # (number of the decision, state) -> preserve ratio


@dataclass(frozen=True, slots=True)
class Episode:
    """One walk with its end: states (T + 1, features), the T keep ratios carried out, and what came of them."""

    states: NDArray[np.float32]
    actions: NDArray[np.float32]
    trial: Trial


class Player:
    """The agent on one problem: plays episodes and learns from them, and from what others have tried."""

    def __init__(self, problem: Problem, warm: Sequence[Trial] = ()) -> None:
        """`warm`: trials to begin from; none: AMC as published."""
        self._problem = problem
        self._states = problem.states
        self._warm = bool(warm)
        self._episode = 0
        self._phase: Phase = "warmup"
        self.episodes = problem.config.episodes
        self.warmup = 0 if warm else min(problem.config.warmup_episodes, self.episodes // 2)
        self.env = PruningEnv(problem.walls, self._states, lambda widths: problem.evaluate(AGENT, self._phase, widths))
        self.agent = DDPG(self._states.features, len(problem.walls.groups), problem.config, problem.seed)
        for trial in warm:
            self.learn_from(trial)
        if warm:
            best = problem.widths(max(warm, key=problem.goal.merit))
            self.agent.imitate(retrace(self._states, best)[:-1], problem.walls.ratios(best))

    def learn_from(self, trial: Trial) -> None:
        """Puts somebody's trial into the replay, as if the agent had answered it."""
        widths = self._problem.widths(trial)
        self.agent.remember(retrace(self._states, widths), self._problem.walls.ratios(widths), trial.reward)

    def play(self) -> Trial:
        """One episode with noise; after the warm-up, one update for each of its steps."""
        config = self._problem.config
        sigma = self.agent.sigma(self._episode, self.warmup, config.warm_sigma if self._warm else None)
        self._phase = "warmup" if self._episode < self.warmup else "explore"
        played = self._walk(lambda _, state: self.agent.act(state, sigma))
        self.agent.remember(played.states, played.actions, played.trial.reward)
        if self._episode >= self.warmup:
            for _ in played.actions:
                self.agent.update()
        self._episode += 1
        return played.trial

    def finish(self) -> Trial:
        """The trained actor's own policy, without noise."""
        self._phase = "final"
        return self._walk(lambda _, state: self.agent.act(state, sigma=0.0)).trial

    def _walk(self, act: Act) -> Episode:
        played = walk(self.env, act)
        widths = self._problem.widths(played.trial)
        if widths == self.env.widths:
            return played
        # a resumed search whose numbers differ in the last digit: what was recorded is what was carried out
        return Episode(retrace(self._states, widths), self._problem.walls.ratios(widths), played.trial)


def walk(env: PruningEnv, act: Act) -> Episode:
    """Plays one episode. The evaluation at its end is what takes the time."""
    state, info = env.reset()
    states, finished = [state], False
    while not finished:
        action = np.array([act(len(states) - 1, state)], np.float32)
        state, _, finished, _, info = env.step(action)
        states.append(state)
    return Episode(np.stack(states), env.walls.ratios(env.widths), info["trial"])


def retrace(states: States, widths: Widths) -> NDArray[np.float32]:
    """The states that a policy passes through, (T + 1, features), without evaluating it."""
    return np.stack([states(widths[:step]) for step in range(len(widths) + 1)])

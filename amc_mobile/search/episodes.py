"""Episodes: one walk over the groups, by the agent or around a policy that is already known to be good."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from amc_mobile.config import SearchConfig
from amc_mobile.search.budget import Walls, Widths
from amc_mobile.search.ddpg import truncated_normal
from amc_mobile.search.env import PruningEnv
from amc_mobile.search.state import State, States
from amc_mobile.types import Score

_ATTEMPTS = 20

Act = Callable[[int, State], float]  # (number of the decision, state) -> preserve ratio


@dataclass(frozen=True, slots=True)
class Episode:
    """One walk with its end: states (T + 1, features), the T keep ratios carried out, and what came of them."""

    states: NDArray[np.float32]
    actions: NDArray[np.float32]
    widths: Widths
    score: Score
    reward: float


def walk(env: PruningEnv, act: Act) -> Episode:
    """Plays one episode. The evaluation at its end is what takes the time."""
    state, info = env.reset()
    states, reward, finished = [state], 0.0, False
    while not finished:
        action = np.array([act(len(states) - 1, state)], np.float32)
        state, reward, finished, _, info = env.step(action)
        states.append(state)
    return Episode(np.stack(states), env.walls.ratios(env.widths), env.widths, info["score"], reward)


def retrace(states: States, widths: Widths) -> NDArray[np.float32]:
    """The states that a policy passes through, (T + 1, features), without evaluating it."""
    return np.stack([states(widths[:step]) for step in range(len(widths) + 1)])


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

"""Episodes: one walk over the groups, by the agent or around a policy that is already known to be good."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from amc_mobile.search.budget import Walls, Widths
from amc_mobile.search.ddpg import truncated_normal
from amc_mobile.search.env import PruningEnv
from amc_mobile.search.state import State, States
from amc_mobile.types import Score

Act = Callable[[int, State], float]  # (number of the decision, state) -> preserve ratio


@dataclass(frozen=True, slots=True)
class Episode:
    """One walk with its end: states (T + 1, features), the T keep ratios really taken, and what came of it."""

    states: NDArray[np.float32]
    actions: NDArray[np.float32]
    widths: Widths
    score: Score
    reward: float


def walk(env: PruningEnv, act: Act, walls: Walls) -> Episode:
    """Plays one episode. The evaluation at its end is what takes the time."""
    state, info = env.reset()
    states, reward, finished = [state], 0.0, False
    while not finished:
        action = np.array([act(len(states) - 1, state)], np.float32)
        state, reward, finished, _, info = env.step(action)
        states.append(state)
    return Episode(np.stack(states), ratios(walls, env.widths), env.widths, info["score"], reward)


def retrace(states: States, widths: Widths) -> NDArray[np.float32]:
    """The states that a policy passes through, (T + 1, features), without evaluating it."""
    return np.stack([states(widths[:step]) for step in range(len(widths) + 1)])


def ratios(walls: Walls, widths: Sequence[int]) -> NDArray[np.float32]:
    """Widths as the keep ratios that an agent would have answered, (T,)."""
    return np.array(widths, np.float32) / np.array(walls.channels, np.float32)


def nearby(
    walls: Walls, centre: Widths, sigma: float, known: Collection[Widths], rng: np.random.Generator, attempts: int = 20
) -> Widths:
    """A policy on the budget near `centre`: truncated-normal noise on each keep ratio, then one common factor.

    Draws again when the policy is already known; the noise grows a little each time, so that small networks end too.
    """
    widths = centre
    for attempt in range(attempts):
        width_of_noise = sigma * (1.0 + 0.1 * attempt)
        noisy = [truncated_normal(float(ratio), width_of_noise, rng) for ratio in ratios(walls, centre)]
        widths = walls.project([ratio * full for ratio, full in zip(noisy, walls.channels, strict=True)])
        if widths not in known:
            break
    return widths

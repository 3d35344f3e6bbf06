"""AMC's agent: deep deterministic policy gradient, in one file, to be read beside the paper (He et al. 2018, sec. 3.2).

What differs from textbook DDPG (Lillicrap et al. 2016):
* actor and critic have two hidden layers of 300; the actor ends in a sigmoid, because the action is a preserve ratio;
* exploration is a truncated normal around the actor's answer, mu' ~ TN(mu(s), sigma^2, 0, 1): sigma is 0.5 while the
  replay warms up and then decays exponentially, once per episode;
* every transition of an episode gets the final reward R, there is no discount (gamma = 1), and a baseline b, an
  exponential moving average of the mean reward of the sampled batches, is taken off:
      y = R - b + gamma * Q'(s', mu'(s')),    loss = mean (y - Q(s, a))^2;
* one update for each step of an episode, after the warm-up.

The replay holds the ratios that were carried out, after walls and rounding, so that Q learns about real networks; on
toy problems that learns more surely than the actor's raw answers, which the authors' code stores. The same seed and the
same rewards give the same answers, bit for bit: that is how a resumed search becomes an uninterrupted one.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from torch import Tensor, nn
from torch.nn import functional

from amc_mobile.sections.search import SearchConfig


class Actor(nn.Module):
    """mu(s): state -> preserve ratio in (0, 1)."""

    def __init__(self, features: int, hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.first, self.second = _linear(features, hidden, generator), _linear(hidden, hidden, generator)
        self.last = _linear(hidden, 1, generator, bound=3e-3)

    def forward(self, state: Tensor) -> Tensor:  # (B, features) -> (B, 1)
        """The action without noise."""
        return torch.sigmoid(self.last(torch.relu(self.second(torch.relu(self.first(state))))))


class Critic(nn.Module):
    """Q(s, a): what an episode is worth in which action a is taken in state s."""

    def __init__(self, features: int, hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.first, self.second = _linear(features + 1, hidden, generator), _linear(hidden, hidden, generator)
        self.last = _linear(hidden, 1, generator, bound=3e-3)

    def forward(self, state: Tensor, action: Tensor) -> Tensor:  # (B, features), (B, 1) -> (B, 1)
        """The value."""
        pair = torch.cat([state, action], dim=1)
        return self.last(torch.relu(self.second(torch.relu(self.first(pair)))))  # type: ignore[no-any-return]


class Batch(NamedTuple):
    """Transitions drawn from the replay. `going_on` is 0 for the last step of an episode."""

    states: Tensor  # (B, features)
    actions: Tensor  # (B, 1)
    rewards: Tensor  # (B, 1)
    next_states: Tensor  # (B, features)
    going_on: Tensor  # (B, 1)


class Replay:
    """A ring of the newest `capacity` transitions."""

    def __init__(self, capacity: int, features: int) -> None:
        self.rows = torch.zeros(capacity, 2 * features + 3)  # state, action, reward, next state, going on
        self.added = 0
        self._parts = [features, 1, 1, features, 1]

    def __len__(self) -> int:
        return min(self.added, len(self.rows))

    def add(self, states: NDArray[np.float32], actions: NDArray[np.float32], reward: float) -> None:
        """Stores one episode, states (T + 1, features) and actions (T,); every step gets the final reward."""
        for step, action in enumerate(actions):
            going_on = float(step + 1 < len(actions))
            row = [*states[step], action, reward, *states[step + 1], going_on]
            self.rows[self.added % len(self.rows)] = torch.tensor(row, dtype=torch.float32)
            self.added += 1

    def sample(self, size: int, generator: torch.Generator) -> Batch:
        """Transitions drawn uniformly, without repeats while there are enough."""
        chosen = torch.randperm(len(self), generator=generator)[:size]
        return Batch(*torch.split(self.rows[chosen], self._parts, dim=1))


class DDPG:
    """The agent. `act` answers, `remember` stores an episode, `update` learns from one batch."""

    def __init__(self, features: int, groups: int, config: SearchConfig, seed: int) -> None:
        self.config = config
        self.generator = torch.Generator().manual_seed(seed)
        self.rng = np.random.default_rng(seed)  # noise
        self.actor = Actor(features, config.hidden, self.generator)
        self.critic = Critic(features, config.hidden, self.generator)
        self.target_actor, self.target_critic = copy.deepcopy(self.actor), copy.deepcopy(self.critic)
        self.actor_optimiser = torch.optim.Adam(self.actor.parameters(), config.actor_lr, fused=True)
        self.critic_optimiser = torch.optim.Adam(self.critic.parameters(), config.critic_lr, fused=True)
        self.replay = Replay(config.replay_per_layer * groups, features)
        self.baseline: float | None = None

    def act(self, state: NDArray[np.float32], sigma: float) -> float:
        """A preserve ratio for the state: the actor's, with truncated-normal noise of width sigma (0: none)."""
        with torch.no_grad():
            mean = float(self.actor(torch.from_numpy(state)[None]))
        return truncated_normal(mean, sigma, self.rng)

    def sigma(self, episode: int, warmup: int, start: float | None = None) -> float:
        """Width of the exploration noise: constant while warming up, then decaying once per episode.

        It begins at `start`; without one at the config's `noise_sigma`, as published.
        """
        first = self.config.noise_sigma if start is None else start
        return first * self.config.noise_decay ** max(0, episode - warmup)

    def remember(self, states: NDArray[np.float32], actions: NDArray[np.float32], reward: float) -> None:
        """Stores an episode: states (T + 1, features), the T actions carried out, and what it was worth."""
        self.replay.add(states, actions, reward)

    def imitate(self, states: NDArray[np.float32], actions: NDArray[np.float32]) -> None:
        """Teaches the actor to answer `actions` (T,) in `states` (T, features), by least squares. Not in the paper."""
        seen, wanted = torch.from_numpy(states), torch.from_numpy(actions)[:, None]
        optimiser = torch.optim.Adam(self.actor.parameters(), _IMITATION_LR, fused=True)
        for _ in range(_IMITATION_STEPS):
            _descend(optimiser, functional.mse_loss(self.actor(seen), wanted))
        self.target_actor.load_state_dict(self.actor.state_dict())

    def update(self) -> None:
        """One step for critic and actor on one batch; the targets follow by tau."""
        batch = self.replay.sample(self.config.batch_size, self.generator)
        rewards = batch.rewards - self._baseline(float(batch.rewards.mean()))
        with torch.no_grad():
            next_values = self.target_critic(batch.next_states, self.target_actor(batch.next_states))
            wanted = rewards + self.config.gamma * batch.going_on * next_values
        critic_loss = functional.mse_loss(self.critic(batch.states, batch.actions), wanted)
        _descend(self.critic_optimiser, critic_loss)
        _descend(self.actor_optimiser, -self.critic(batch.states, self.actor(batch.states)).mean())
        _follow(self.target_actor, self.actor, self.config.tau)
        _follow(self.target_critic, self.critic, self.config.tau)

    def _baseline(self, mean_reward: float) -> float:
        decay = self.config.baseline_decay
        before = mean_reward if self.baseline is None else self.baseline
        self.baseline = decay * before + (1.0 - decay) * mean_reward
        return self.baseline


_IMITATION_STEPS, _IMITATION_LR = 300, 1e-3


def truncated_normal(mean: float, sigma: float, rng: np.random.Generator) -> float:
    """A draw from the normal distribution of that mean and width, confined to [0, 1], by its inverse distribution."""
    if sigma <= 0.0:
        return mean
    low, high = ndtr((0.0 - mean) / sigma), ndtr((1.0 - mean) / sigma)
    drawn = mean + sigma * ndtri(low + (high - low) * rng.random())
    return float(min(max(drawn, 0.0), 1.0))


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one core inside: for nets of this size threads cost more than they bring, and change the last digits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _linear(inputs: int, outputs: int, generator: torch.Generator, bound: float | None = None) -> nn.Linear:
    """A layer drawn from U(-bound, bound), bound 1/sqrt(inputs) unless given (Lillicrap et al. 2016, sec. 7)."""
    layer = nn.Linear(inputs, outputs)
    limit = inputs**-0.5 if bound is None else bound
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -limit, limit, generator=generator)
    return layer


def _descend(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step on what the optimiser holds. A loss that also leads through another net leaves that one alone."""
    held = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    optimiser.zero_grad()
    loss.backward(inputs=held)  # type: ignore[no-untyped-call]
    optimiser.step()


def _follow(target: nn.Module, source: nn.Module, tau: float) -> None:
    with torch.no_grad():
        for slow, fast in zip(target.parameters(), source.parameters(), strict=True):
            slow.lerp_(fast, tau)

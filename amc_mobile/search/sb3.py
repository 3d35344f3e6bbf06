"""Agents of stable-baselines3 on the same environment: the seam between search and agent is gymnasium's.

They are stock algorithms: the reward comes at the last step only and noise is normal. Here to compare with.
"""

from __future__ import annotations

import numpy as np

from amc_mobile.errors import ConfigError
from amc_mobile.search.budget import Widths
from amc_mobile.search.env import PruningEnv
from amc_mobile.search.problem import Problem
from amc_mobile.trials import Trial


def ddpg(problem: Problem) -> None:
    """stable-baselines3's DDPG for `episodes` episodes, and its policy without noise."""
    _learn(problem, "DDPG")


def td3(problem: Problem) -> None:
    """stable-baselines3's TD3, likewise."""
    _learn(problem, "TD3")


def _learn(problem: Problem, algorithm: str) -> None:
    try:
        import stable_baselines3
        from stable_baselines3.common.logger import Logger
        from stable_baselines3.common.noise import NormalActionNoise
    except ImportError as error:
        raise ConfigError(
            f"agent sb3-{algorithm.lower()} needs stable-baselines3; type pip install 'amc-mobile[sb3]', or choose "
            "--agent auto"
        ) from error
    config, steps = problem.config, len(problem.walls.groups)
    name, final = f"sb3-{algorithm.lower()}", False

    def judge(widths: Widths) -> Trial:
        return problem.evaluate(name, "final" if final else "explore", widths)

    env = PruningEnv(problem.walls, problem.states, judge)
    warmup = min(config.warmup_episodes, config.episodes // 2)
    model = getattr(stable_baselines3, algorithm)(
        "MlpPolicy",
        env,
        learning_starts=warmup * steps,
        buffer_size=config.replay_per_layer * steps,
        batch_size=config.batch_size,
        gamma=config.gamma,
        tau=config.tau,
        train_freq=(1, "episode"),
        gradient_steps=-1,
        action_noise=NormalActionNoise(np.zeros(1), np.full(1, config.noise_sigma / 2)),
        policy_kwargs={"net_arch": [config.hidden, config.hidden]},
        seed=problem.seed,
        device="cpu",
    )
    model.set_logger(Logger(folder=None, output_formats=[]))  # its own leaves a folder in the temporary directory
    model.learn(config.episodes * steps)
    final = True
    state, _ = env.reset()
    finished = False
    while not finished:
        action, _ = model.predict(state, deterministic=True)
        state, _, finished, _, _ = env.step(action)

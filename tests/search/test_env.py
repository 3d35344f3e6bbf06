"""The environment keeps gymnasium's contract, and stable-baselines3's, and pays once, at the end."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from amc_mobile.cost.price import price
from amc_mobile.search.budget import Walls, Widths
from amc_mobile.search.env import PruningEnv
from amc_mobile.search.rewards import REWARDS
from amc_mobile.search.state import States
from amc_mobile.trials import Trial
from amc_mobile.types import Score

from .networks import Separable, chain, macs


@pytest.fixture
def walls() -> Walls:
    graph = chain([16, 32, 64])
    cost = macs(graph)
    return Walls(graph, cost, 0.5 * cost(graph.full().kept), 0.2, 8)


@pytest.fixture
def env(walls: Walls) -> PruningEnv:
    evaluator = Separable(walls.network, [1, 2, 3])

    def judge(widths: Widths) -> Trial:
        policy = walls.policy(widths)
        score = evaluator.evaluate(policy)
        return Trial(0, "test", "explore", policy.kept, price(walls.network, policy), score, -score.kl, 0.0)

    return PruningEnv(walls, States(walls, latency=True), judge)


@pytest.mark.filterwarnings("ignore::UserWarning")  # it would like actions in [-1, 1]; ours are ratios
def test_gymnasium_accepts_it(env: PruningEnv) -> None:
    check_env(env, skip_render_check=True)  # raises for whatever breaks gymnasium's contract
    assert env.action_space.shape == (1,)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_stable_baselines_accepts_it(env: PruningEnv) -> None:
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    checker.check_env(env, skip_render_check=True)  # raises for whatever its agents could not use
    state, _ = env.reset()
    assert len(state) == 12


def test_only_the_last_step_pays(env: PruningEnv, walls: Walls) -> None:
    state, info = env.reset(seed=1)
    assert env.observation_space.contains(state)
    assert info == {}
    seen = [env.step(np.array([0.6], np.float32)) for _ in walls.groups]
    assert [(reward, end) for _, reward, end, _, _ in seen[:-1]] == [(0.0, False)] * (len(seen) - 1)
    assert not any(truncated for _, _, _, truncated, _ in seen)
    assert all(set(info) == {"kept"} for *_, info in seen[:-1])
    _, reward, end, _, info = seen[-1]
    assert end
    assert info["trial"].kept == walls.policy(env.widths).kept
    assert info["trial"].cost.macs == walls.cost(env.widths) <= walls.limit
    assert reward == info["trial"].reward < 0
    assert [step[4]["kept"] for step in seen] == list(env.widths)


def test_the_same_actions_end_the_same(env: PruningEnv) -> None:
    ends = []
    for seed in (0, 5):
        env.reset(seed=seed)
        for action in (0.9, 0.2, 0.5):
            *_, info = env.step(np.array([action], np.float32))
        ends.append(info)
    assert ends[0] == ends[1]


def test_rewards_rise_with_quality() -> None:
    worse = Score(top1=0.5, top5=0.8, kl=1.5, images=10)
    better = Score(top1=0.6, top5=0.9, kl=0.5, images=10)
    found = {name: (REWARDS[name](worse), REWARDS[name](better)) for name in ("top1", "top5", "kl")}
    detectors = [Score(None, None, 1.0, 10, map=share / 2, map50=share) for share in (0.5, 0.6)]
    found |= {name: tuple(map(REWARDS[name], detectors)) for name in ("map", "map50")}
    assert found.keys() == REWARDS.keys()
    assert found == {
        "map": (-0.75, -0.7),
        "map50": (-0.5, -0.4),
        "top1": (-0.5, -0.4),
        "top5": (pytest.approx(-0.2), pytest.approx(-0.1)),
        "kl": (-1.5, -0.5),
    }

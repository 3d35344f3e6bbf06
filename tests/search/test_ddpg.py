"""The agent: its noise, its schedule, its memory, its learning, and that the same seed gives the same bits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from amc_mobile.search.ddpg import DDPG, Replay, one_thread, truncated_normal
from amc_mobile.sections.search import SearchConfig

SMALL = SearchConfig(hidden=16, batch_size=8, replay_per_layer=20)


def filled(seed: int, config: SearchConfig = SMALL) -> DDPG:
    agent, rng = DDPG(4, 3, config, seed), np.random.default_rng(9)
    for _ in range(10):
        agent.remember(rng.random((4, 4), dtype=np.float32), rng.random(3, dtype=np.float32), float(rng.normal()))
    return agent


@pytest.mark.parametrize(("mean", "sigma"), [(0.5, 0.5), (0.95, 0.2), (0.02, 0.05)])
def test_noise_is_the_truncated_normal(mean: float, sigma: float) -> None:
    rng = np.random.default_rng(0)
    drawn = [truncated_normal(mean, sigma, rng) for _ in range(2000)]
    assert 0 <= min(drawn) <= max(drawn) <= 1
    expected = stats.truncnorm(-mean / sigma, (1 - mean) / sigma, loc=mean, scale=sigma)
    assert stats.kstest(drawn, expected.cdf).pvalue > 0.01


def test_no_noise_is_the_actors_own_answer() -> None:
    agent, state = filled(0), np.full(4, 0.5, np.float32)
    before = agent.rng.bit_generator.state
    assert agent.act(state, 0.0) == agent.act(state, 0.0)
    assert 0 < agent.act(state, 0.0) < 1
    assert agent.rng.bit_generator.state == before


def test_noise_is_constant_then_decays_once_per_episode() -> None:
    agent = DDPG(4, 3, SearchConfig(), 0)
    assert [agent.sigma(episode, 100) for episode in (0, 99, 100)] == [0.5, 0.5, 0.5]
    assert agent.sigma(101, 100) == pytest.approx(0.475)
    assert agent.sigma(101, 100, 0.1) == pytest.approx(0.095)
    assert agent.sigma(120, 100) == pytest.approx(0.5 * 0.95**20)


def test_every_step_of_an_episode_gets_the_final_reward() -> None:
    replay = Replay(6, 2)
    states = np.arange(8, dtype=np.float32).reshape(4, 2)
    replay.add(states, np.array([0.1, 0.2, 0.3], np.float32), -0.5)
    batch = replay.sample(64, torch.Generator().manual_seed(0))
    order = batch.states[:, 0].argsort()
    assert len(replay) == 3
    assert batch.rewards[order].flatten().tolist() == [-0.5] * 3
    assert batch.going_on[order].flatten().tolist() == [1, 1, 0]
    np.testing.assert_array_equal(batch.next_states[order], states[1:])
    np.testing.assert_allclose(batch.actions[order].flatten(), [0.1, 0.2, 0.3])


def test_a_full_replay_forgets_the_oldest() -> None:
    replay = Replay(4, 1)
    for episode in range(3):
        replay.add(np.zeros((3, 1), np.float32), np.zeros(2, np.float32), float(episode))
    assert len(replay) == 4
    assert sorted(replay.rows[:, 2].tolist()) == [1, 1, 2, 2]


def test_the_critic_learns_the_papers_target() -> None:
    """The target is R - b + gamma Q'(s', mu'(s')), b the moving average of batch rewards: one step by hand."""
    agent = filled(1)
    agent.update()  # the baseline exists now
    batch = Replay.sample(agent.replay, SMALL.batch_size, torch.Generator().set_state(agent.generator.get_state()))
    assert agent.baseline is not None
    baseline = 0.5 * agent.baseline + 0.5 * float(batch.rewards.mean())
    with torch.no_grad():
        later = agent.target_critic(batch.next_states, agent.target_actor(batch.next_states))
        wanted = batch.rewards - baseline + batch.going_on * later
    loss = ((agent.critic(batch.states, batch.actions) - wanted) ** 2).mean()
    expected = torch.autograd.grad(loss, agent.critic.last.weight)[0]
    seen = []
    agent.critic.last.weight.register_hook(lambda gradient: seen.append(gradient.clone()))
    slow, fast = agent.target_critic.last.weight.clone(), agent.critic.last.weight
    agent.update()
    torch.testing.assert_close(seen[0], expected)
    assert agent.baseline == pytest.approx(baseline)
    torch.testing.assert_close(agent.target_critic.last.weight, 0.99 * slow + 0.01 * fast)


def test_the_same_seed_and_rewards_give_the_same_answers_bit_for_bit() -> None:
    state = np.full(4, 0.3, np.float32)

    def history(seed: int) -> tuple[list[float], list[torch.Tensor]]:
        agent, answers = filled(seed), []
        for _ in range(12):
            agent.update()
            answers.append(agent.act(state, 0.3))
        return answers, [p.clone() for net in (agent.actor, agent.target_critic) for p in net.parameters()]

    with one_thread():
        answers, parameters = history(2)
        again, those = history(2)
        assert answers == again != history(3)[0]
    assert all(torch.equal(a, b) for a, b in zip(parameters, those, strict=True))


def test_seeds_decide() -> None:
    state = np.full(4, 0.5, np.float32)
    first, same, other = (DDPG(4, 3, SMALL, seed).act(state, 0.5) for seed in (0, 0, 1))
    assert first == same != other


def test_it_finds_the_best_action_of_a_one_step_task() -> None:
    agent, state = DDPG(1, 1, SearchConfig(replay_per_layer=500), 0), np.ones(1, np.float32)
    for episode in range(240):
        answer = agent.act(state, agent.sigma(episode, 60))
        agent.remember(np.ones((2, 1), np.float32), np.array([answer], np.float32), -((answer - 0.8) ** 2))
        if episode >= 60:
            for _ in range(3):
                agent.update()
    assert agent.act(state, 0.0) == pytest.approx(0.8, abs=0.1)


def test_it_imitates_a_policy() -> None:
    agent, rng = DDPG(4, 3, SearchConfig(hidden=64), 0), np.random.default_rng(3)
    states, actions = rng.random((3, 4), dtype=np.float32), np.array([0.9, 0.3, 0.6], np.float32)
    agent.imitate(states, actions)
    assert [agent.act(state, 0.0) for state in states] == pytest.approx(list(actions), abs=0.05)
    assert all(map(torch.equal, agent.actor.parameters(), agent.target_actor.parameters()))


def test_threads_are_given_back() -> None:
    before = torch.get_num_threads()
    with pytest.raises(KeyError), one_thread():
        assert torch.get_num_threads() == 1
        raise KeyError
    assert torch.get_num_threads() == before

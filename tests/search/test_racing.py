"""Racing saves work and never changes the winner among the networks that were tried."""

from __future__ import annotations

from pathlib import Path

import pytest

from amc_mobile.search.rewards import REWARDS
from amc_mobile.sections.search import AgentName
from amc_mobile.types import Policy, RewardName, Score

from .networks import Coupled
from .searches import EVERY_AGENT, WEIGHTS, Racing, config_of, lines, run, six_groups

LEARNING = ("auto", "ddpg", "ddpg-warm", "sb3-ddpg", "sb3-td3")  # what they try next follows from what losers got


@pytest.mark.parametrize("reward", ["kl", "top1"])
@pytest.mark.parametrize("agent", EVERY_AGENT)
def test_the_winner_was_never_given_up(agent: AgentName, reward: RewardName, tmp_path: Path) -> None:
    exact = Coupled(six_groups(), WEIGHTS)
    racing = Racing(exact, reward)
    raced, trials = run(six_groups(), tmp_path / "raced", config_of(agent, reward=reward), evaluator=racing)
    assert raced.best.score == exact.evaluate(Policy(raced.best.kept))
    rewards = [REWARDS[reward](exact.evaluate(Policy(trial.kept))) for trial in trials]
    assert raced.best.index == rewards.index(max(rewards))
    assert sum(trial.score.images < 100 for trial in trials) == sum(
        real > trial.reward for real, trial in zip(rewards, trials, strict=True)
    )


@pytest.mark.parametrize("agent", [parameter for parameter in EVERY_AGENT if parameter.values[0] not in LEARNING])
def test_who_does_not_learn_tries_the_same_networks(agent: AgentName, tmp_path: Path) -> None:
    def tried(name: str, *, on: bool) -> list[object]:
        evaluator = Racing(Coupled(six_groups(), WEIGHTS))
        run(six_groups(), tmp_path / name, config_of(agent, racing=on), evaluator=evaluator)
        assert on or not evaluator.given_up
        return [(line["agent"], line["kept"]) for line in lines(tmp_path / name)]

    assert tried("on", on=True) == tried("off", on=False)


def test_losers_are_given_up(tmp_path: Path) -> None:
    evaluator = Racing(Coupled(six_groups(), WEIGHTS))
    _, trials = run(six_groups(), tmp_path, config_of("random", episodes=40), evaluator=evaluator)
    given_up = [trial for trial in trials if trial.score.images < 100]
    assert len(given_up) >= 30  # of 40 in a random order the expected number of new records is 4.3
    assert evaluator.given_up == len({trial.kept for trial in given_up})


def test_the_accuracy_guaranteed_protocol_does_not_race(tmp_path: Path) -> None:
    """There a worse reward can be the cheaper network, and accuracy itself must be exact."""

    class Asked(Coupled):
        def evaluate(self, policy: Policy, to_beat: float | None = None) -> Score:
            assert to_beat is None
            return super().evaluate(policy)

    _, trials = run(
        six_groups(), tmp_path, config_of("auto", protocol="accuracy"), evaluator=Asked(six_groups(), WEIGHTS)
    )
    assert len(trials) > 30

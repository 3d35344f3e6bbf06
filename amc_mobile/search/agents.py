"""Who searches, by name: every agent is a function of the problem, under the same evaluator, budget and count.

ddpg        AMC as published (episodes.py)
ddpg-warm   the same agent, beginning from the policies that need no learning
uniform, shallow, deep, random, sensitivity, greedy, knapsack, netadapt   its opponents (opponents.py, netadapt.py)
sb3-ddpg, sb3-td3   the agents of stable-baselines3 on the same environment (sb3.py)
auto        all policies that need no learning, then a guided descent from the best of them (guided.py), then episodes
            of the warm DDPG agent and random changes to the best policy (local.py) in turn; the best of all wins
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from amc_mobile.search import guided, local, opponents, sb3, sensitivity
from amc_mobile.search.budget import Walls
from amc_mobile.search.episodes import Player
from amc_mobile.search.netadapt import netadapt
from amc_mobile.search.opponents import Maker
from amc_mobile.search.problem import Problem
from amc_mobile.sections.search import AgentName, SearchConfig
from amc_mobile.trials import Trial

Agent = Callable[[Problem], None]

_HALVINGS = 6  # of the budget, in the search for the cheapest policy of one kind


def ddpg(problem: Problem) -> None:
    """AMC as published: `episodes` episodes from nothing, one last episode without noise."""
    _play(Player(problem))


def ddpg_warm(problem: Problem) -> None:
    """The same, beginning from the policies that need no learning."""
    meet(problem)
    _play(Player(problem, warm=problem.trials))


def _play(player: Player) -> None:
    for _ in range(player.episodes):
        player.play()
    player.finish()


def auto(problem: Problem) -> None:
    """Everybody who is good: opponents, guided descent, warm DDPG and random changes."""
    meet(problem)
    left = problem.config.episodes if problem.left is None else problem.left
    guided.descend(problem, int(problem.config.guided_share * left))
    rng = np.random.default_rng((problem.seed, len(problem.walls.groups), 1))
    player, share = Player(problem, warm=problem.trials), problem.config.local_share
    for episode in range(player.episodes):
        if int((episode + 1) * share) > int(episode * share):
            player.learn_from(local.improve(problem, rng))
        else:
            player.play()
    player.finish()


def random(problem: Problem) -> None:
    """As many random policies on the budget as there are episodes, or evaluations."""
    rng = np.random.default_rng((problem.seed, len(problem.walls.groups)))
    for _ in range(problem.config.evaluations or problem.config.episodes):
        draw(problem, rng)


def draw(problem: Problem, rng: np.random.Generator) -> Trial:
    """One random policy on the budget; under the accuracy-guaranteed protocol on a random smaller one."""
    walls = problem.walls
    if problem.config.protocol == "accuracy":
        walls = walls.within(rng.uniform(walls.smallest_cost, walls.limit))
    return problem.evaluate("random", "opponent", opponents.drawn(walls, rng))


def meet(problem: Problem) -> None:
    """Every policy that needs no learning."""
    for name, maker in opponents.by_shape().items():
        propose(problem, name, maker)
    rng = np.random.default_rng((problem.seed, len(problem.walls.groups)))
    for _ in range(problem.config.random_policies):
        draw(problem, rng)
    for name, maker in opponents.by_sensitivity(problem.curves()).items():
        propose(problem, name, maker)


def propose(problem: Problem, name: AgentName, maker: Maker) -> None:
    """One kind of policy on the budget; under the accuracy-guaranteed protocol its cheapest that is accurate enough."""
    if problem.config.protocol == "resource":
        problem.evaluate(name, "opponent", maker(problem.walls))
        return
    low, high = problem.walls.smallest_cost, problem.walls.limit
    for _ in range(_HALVINGS):
        middle = (low * high) ** 0.5
        trial = problem.evaluate(name, "opponent", maker(problem.walls.within(middle)))
        low, high = (low, middle) if problem.goal.enough(trial.score) else (middle, high)


def alone(name: AgentName) -> Agent:
    """An opponent by itself."""

    def agent(problem: Problem) -> None:
        shapes = opponents.by_shape()
        makers = shapes if name in shapes else opponents.by_sensitivity(problem.curves())
        propose(problem, name, makers[name])

    return agent


def expected_evaluations(walls: Walls, config: SearchConfig) -> int:
    """About how many networks the agent will have evaluated: for the progress line."""
    single = sensitivity.evaluations(walls, config.sensitivity_points)
    shapes, informed = opponents.by_shape(), opponents.by_sensitivity(())
    met, episodes = single + len(shapes) + len(informed) + config.random_policies, config.episodes + 1
    descent = int(config.guided_share * config.episodes)
    wanted = {
        **dict.fromkeys(shapes, 1),
        **dict.fromkeys(informed, single + 1),
        "ddpg-warm": met + episodes,
        "auto": met + episodes + descent - descent % guided.rounds(walls),
    }.get(config.agent, episodes)
    return wanted if config.evaluations is None else min(wanted, config.evaluations)


AGENTS: Mapping[AgentName, Agent] = MappingProxyType(
    {
        "auto": auto,
        "ddpg": ddpg,
        "ddpg-warm": ddpg_warm,
        "sb3-ddpg": sb3.ddpg,
        "sb3-td3": sb3.td3,
        "uniform": alone("uniform"),
        "shallow": alone("shallow"),
        "deep": alone("deep"),
        "random": random,
        "sensitivity": alone("sensitivity"),
        "greedy": alone("greedy"),
        "knapsack": alone("knapsack"),
        "netadapt": netadapt,
    }
)

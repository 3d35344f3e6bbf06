"""Networks that no table was made from, drawn by another sampler than the carriers: what searches and rules propose.

Where a rule or a search needs a budget it is one of the table's latency, as in a real search; so these are also the
networks that the table flatters, if it flatters any. Searches play by sensitivities that are drawn at random: what
the weights would say does not matter here, only that real agents decide on the real grid under the real budget.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from amc_mobile.cost.table import LatencyTable
from amc_mobile.cost.widths import width_grid
from amc_mobile.profile.predict import original_us
from amc_mobile.runs import RunFolder
from amc_mobile.search.budget import Walls, build_walls
from amc_mobile.search.opponents import drawn, ramp, uniform
from amc_mobile.search.run import search
from amc_mobile.sections.search import AgentName, SearchConfig
from amc_mobile.types import Budget, NetworkGraph, Policy, Score

SEARCHES: tuple[tuple[AgentName, float], ...] = (
    ("ddpg", 0.8),
    ("ddpg", 0.6),
    ("auto", 0.7),
    ("auto", 0.5),
    ("knapsack", 0.6),
    ("netadapt", 0.5),
)


def held_out(network: NetworkGraph, table: LatencyTable, seed: int) -> dict[str, Policy]:
    """24 policies by label: 6 searches, 4 of each rule, 6 random ones (2 on a budget, 4 of independent widths)."""
    rng = np.random.default_rng([seed, 2026])
    policies: dict[str, Policy] = {}
    for agent, wanted in SEARCHES:
        share = _reachable(network, table, wanted)
        policies[f"search {agent} {wanted:.2f}"] = searched(network, table, agent, share, seed)
    rules: dict[str, Callable[[Walls], tuple[int, ...]]] = {
        "uniform": uniform,
        "shallow": lambda walls: ramp(walls, 0.4, 1.0),
        "deep": lambda walls: ramp(walls, 1.0, 0.4),
    }
    for name, rule in rules.items():
        for wanted in (0.9, 0.75, 0.6, 0.45):
            share = _reachable(network, table, wanted)
            walls = walls_of(network, table, share)
            policies[f"{name} {wanted:.2f}"] = walls.policy(rule(walls))
    for number in range(2):
        walls = walls_of(network, table, _reachable(network, table, rng.uniform(0.4, 0.9)))
        policies[f"random on a budget {number}"] = walls.policy(drawn(walls, rng))
    for number in range(4):
        policies[f"random {number}"] = independent(network, rng)
    return policies


def walls_of(network: NetworkGraph, table: LatencyTable, share: float) -> Walls:
    """The walls of a budget: this share of the original's latency."""
    limit = Budget("latency_us", share * original_us(table, network))
    return build_walls(network, [limit], {"": table}, SearchConfig())


def searched(network: NetworkGraph, table: LatencyTable, agent: AgentName, share: float, seed: int) -> Policy:
    """What a search settles on when groups' sensitivities are drawn at random."""
    rng = np.random.default_rng([seed, round(100 * share), len(agent)])
    config = SearchConfig(
        agent=agent, episodes=40, warmup_episodes=10, evaluations=60 + 2 * len(network.groups), sensitivity_points=2
    )
    limit = Budget("latency_us", share * original_us(table, network))
    with tempfile.TemporaryDirectory() as folder:
        found = search(
            network, {"": table}, RandomSensitivities(network, rng), config, [limit], seed, RunFolder(Path(folder))
        )
    return Policy(found.best.kept)


def independent(network: NetworkGraph, rng: np.random.Generator) -> Policy:
    """Every group's width drawn evenly and for itself from all widths allowed, worth choosing or not."""
    rule = SearchConfig()
    return Policy(
        tuple(
            int(rng.choice(width_grid(group.channels, rule.min_keep_ratio, rule.round_to)))
            if group.prunable
            else group.channels
            for group in network.groups
        )
    )


class RandomSensitivities:
    """A PolicyEvaluator: each group loses by a power of what is cut, with a weight of its own."""

    def __init__(self, network: NetworkGraph, rng: np.random.Generator) -> None:
        self._channels = np.array([group.channels for group in network.groups], float)
        self._weights = rng.gamma(0.7, size=len(self._channels))
        self._powers = rng.uniform(1.0, 3.0, size=len(self._channels))

    def evaluate(self, policy: Policy, to_beat: float | None = None) -> Score:
        """A made-up accuracy in (0, 1]."""
        cut = 1.0 - np.array(policy.kept) / self._channels
        accuracy = float(np.exp(-2.0 * np.sum(self._weights * cut**self._powers) / self._weights.sum()))
        return Score(accuracy, accuracy, -float(np.log(accuracy)), 1000)


def _reachable(network: NetworkGraph, table: LatencyTable, share: float) -> float:
    """The share, or the least that the network can be brought to with some room."""
    smallest = [width_grid(group.channels, 0.2, 8)[0] if group.prunable else group.channels for group in network.groups]
    least = table.latency_us(network, smallest) / original_us(table, network)
    return max(share, least + 0.1 * (1 - least))

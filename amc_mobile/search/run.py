"""The search from first opponent to result: who proposes which policy, in which order, and what is kept.

Order: sensitivities, opponents, `episodes` episodes of the agent, one last episode of the trained actor without noise.
The result is the best reward seen, whoever proposed it, with the budget checked again.

With `warm_start = false` the agent is AMC as published. With `warm_start = true` (our own addition, for searches of a
hundred episodes rather than the paper's four hundred):
* the opponents' policies enter the replay before the first episode, as if the agent had answered them; the actor
  imitates the best of them, and its noise begins at the smaller `warm_sigma`;
* a share `local_share` of the episodes explores around the best policy found so far rather than around the actor: noise
  on a few of its keep ratios, scaled back onto the budget. These episodes enter the replay like all others.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from amc_mobile.config import SearchConfig
from amc_mobile.cost.price import cost_function, price
from amc_mobile.cost.table import LatencyTable
from amc_mobile.device.protocol import Progress
from amc_mobile.errors import BudgetError
from amc_mobile.runs import RunFolder, plain, write_json
from amc_mobile.search import opponents, sensitivity
from amc_mobile.search.budget import Walls, Widths, in_words
from amc_mobile.search.ddpg import DDPG, one_thread
from amc_mobile.search.env import PruningEnv
from amc_mobile.search.episodes import Episode, nearby, retrace, walk
from amc_mobile.search.evaluator import PolicyEvaluator
from amc_mobile.search.journal import Journal
from amc_mobile.search.rewards import REWARDS
from amc_mobile.search.state import States
from amc_mobile.types import Budget, NetworkGraph, Score, SearchResult, Trial

AGENT = "ddpg"


def search(
    network: NetworkGraph,
    table: LatencyTable | None,
    evaluator: PolicyEvaluator,
    config: SearchConfig,
    budget: Budget,
    seed: int,
    folder: RunFolder,
    progress: Progress | None = None,
    context: Mapping[str, str] | None = None,
) -> SearchResult:
    """The best policy within the budget. Continues the folder's search, if it holds one under the same settings.

    Writes trials.jsonl and search.pt after every trial, sensitivity.json, and search.json at the end. `context` names
    whatever else the scores depend on (model, images, pruning); it is compared when a search is continued.

    Raises: BudgetError if the smallest policy exceeds the limit; RunFolderError if the folder holds another search.
    """
    cost = cost_function(network, budget.metric, table)
    margin = config.latency_margin if budget.metric == "latency_us" else 0.0
    walls = Walls(
        network, cost, budget.limit, config.min_keep_ratio, config.round_to, metric=budget.metric, margin=margin
    )
    journal = Journal(folder, fingerprint(walls, config, budget, seed, context or {}))
    under_way = Search(walls, table, evaluator, config, budget, seed, folder, journal, progress)
    with one_thread():
        if config.opponents:
            under_way.meet_opponents()
        under_way.play()
    result = under_way.result()
    write_json(folder.search, result)
    return result


@dataclass
class Search:
    """One search under way: its settings, the agent and its environment, and the journal that says how far it is."""

    walls: Walls
    table: LatencyTable | None
    evaluator: PolicyEvaluator
    config: SearchConfig
    budget: Budget
    seed: int
    folder: RunFolder
    journal: Journal
    progress: Progress | None
    states: States = field(init=False)
    env: PruningEnv = field(init=False)
    agent: DDPG = field(init=False)

    def __post_init__(self) -> None:
        self.reward = REWARDS[self.config.reward]
        self.states = States(self.walls, latency=self.budget.metric == "latency_us")
        self.env = PruningEnv(self.walls, self.states, self.evaluator, self.reward)
        self.agent = DDPG(self.states.features, len(self.walls.groups), self.config, self.seed)
        self.warmup = min(self.config.warmup_episodes, self.config.episodes // 2)
        points = self.config.sensitivity_points
        self.sensitivity_evaluations = sensitivity.evaluations(self.walls, points) if self.config.opponents else 0

    # -------------------------------------------------------------------------------------------------- the opponents

    def meet_opponents(self) -> None:
        """Evaluates the policies that need no learning, each as a trial."""
        if not self.journal.trials and not self.journal.continued:
            self.folder.sensitivity.unlink(missing_ok=True)  # of a search that was deleted
        proposals = [
            *opponents.without_evaluations(self.walls, self.config.random_policies, self.seed),
            *opponents.from_sensitivities(self.walls, self._sensitivities()),
        ]
        for proposal in proposals[len(self.journal.trials) :]:
            self._tell_trial(f"opponent {proposal.agent}")
            started = time.perf_counter()
            score = self.evaluator.evaluate(self.walls.policy(proposal.widths))
            self._record(proposal.agent, "opponent", proposal.widths, score, started)

    def _sensitivities(self) -> tuple[sensitivity.Curve, ...]:
        points, path = self.config.sensitivity_points, self.folder.sensitivity
        return sensitivity.measure(
            self.walls, self.evaluator, points, path, lambda done, _, what: self._tell(done, what)
        )

    # ------------------------------------------------------------------------------------------------------ the agent

    def play(self) -> None:
        """Plays the episodes that are still to be played, and a last one without noise."""
        met = [trial for trial in self.journal.trials if trial.phase == "opponent"]
        if self.journal.agent is not None:
            self.agent.load_state_dict(self.journal.agent)
        elif self._warm:
            self._warm_up_from(met)
        for episode in range(len(self.journal.trials) - len(met), self.config.episodes + 1):
            self._tell_trial(f"episode {min(episode + 1, self.config.episodes)} of {self.config.episodes}")
            started = time.perf_counter()
            phase, played = self._play_one(episode)
            if phase != "final":
                self._learn(episode, played)
            self._record(AGENT, phase, played.widths, played.score, started)

    @property
    def _warm(self) -> bool:
        return self.config.warm_start and self.config.opponents

    def _warm_up_from(self, met: list[Trial]) -> None:
        """Fills the replay with the opponents' policies; the actor starts as the best of them."""
        for trial in met:
            widths = self._widths(trial)
            self.agent.remember(retrace(self.states, widths), self.walls.ratios(widths), trial.reward)
        best = self._widths(max(met, key=merit))
        self.agent.imitate(retrace(self.states, best)[:-1], self.walls.ratios(best))

    def _play_one(self, episode: int) -> tuple[str, Episode]:
        """One episode and its phase: warmup, explore, local (around the best policy), final (the actor, no noise)."""
        if episode == self.config.episodes:
            return "final", walk(self.env, lambda _, state: self.agent.act(state, sigma=0.0))
        if self._is_local(episode):
            known = {self._widths(trial) for trial in self.journal.trials}
            aim = self.walls.ratios(nearby(self.walls, self._widths(self._best()), self.config, known, self.agent.rng))
            return "local", walk(self.env, lambda step, _: float(aim[step]))
        sigma = self.agent.sigma(episode, self.warmup, self.config.warm_sigma if self._warm else None)
        phase = "warmup" if episode < self.warmup else "explore"
        return phase, walk(self.env, lambda _, state: self.agent.act(state, sigma))

    def _is_local(self, episode: int) -> bool:
        """Whether the episode is one of the evenly spread share that explores around the best policy."""
        share = self.config.local_share if self._warm else 0.0
        return int((episode + 1) * share) > int(episode * share)

    def _learn(self, episode: int, played: Episode) -> None:
        """Stores the episode; after the warm-up, one update for each of its steps."""
        self.agent.remember(played.states, played.actions, played.reward)
        if episode >= self.warmup:
            for _ in played.actions:
                self.agent.update()

    # ---------------------------------------------------------------------------------------------------- bookkeeping

    def result(self) -> SearchResult:
        """The best trial of all, and the best of every other agent. Raises: BudgetError if it broke the budget."""
        ranked = sorted(self.journal.trials, key=merit, reverse=True)  # stable: of equals the first
        spent = self.walls.cost(self._widths(ranked[0]))
        if spent > self.budget.limit:
            raise BudgetError(
                f"the best policy costs {in_words(spent, self.budget.metric)}, more than the budget of "
                f"{in_words(self.budget.limit, self.budget.metric)}; please report this with {self.folder.root}"
            )
        others = dict.fromkeys(trial.agent for trial in self.journal.trials if trial.agent != AGENT)
        return SearchResult(
            budget=self.budget,
            best=ranked[0],
            opponents=tuple(next(trial for trial in ranked if trial.agent == agent) for agent in others),
            episodes=self.config.episodes,
        )

    def _best(self) -> Trial:
        return max(self.journal.trials, key=merit)

    def _widths(self, trial: Trial) -> Widths:
        return tuple(trial.kept[group.index] for group in self.walls.groups)

    def _record(self, agent: str, phase: str, widths: Widths, score: Score, started: float) -> None:
        policy = self.walls.policy(widths)
        trial = Trial(
            index=len(self.journal.trials),
            agent=agent,
            phase=phase,
            kept=policy.kept,
            cost=price(self.walls.network, policy, self.table),
            score=score,
            reward=self.reward(score),
            seconds=round(time.perf_counter() - started, 4),
        )
        self.journal.record(trial, self.agent.state_dict() if agent == AGENT else None)

    def _tell_trial(self, what: str) -> None:
        best = f", best reward {self._best().reward:.4f}" if self.journal.trials else ""
        self._tell(self.sensitivity_evaluations + len(self.journal.trials), what + best)

    def _tell(self, done: int, what: str) -> None:
        met = opponents.NAMED + self.config.random_policies if self.config.opponents else 0
        if self.progress is not None:
            self.progress(done, self.sensitivity_evaluations + met + self.config.episodes + 1, what)


def merit(trial: Trial) -> tuple[float, float]:
    """What trials are ranked by: reward, and of equal rewards the smaller divergence from the original."""
    return trial.reward, -trial.score.kl


def fingerprint(
    walls: Walls, config: SearchConfig, budget: Budget, seed: int, context: Mapping[str, str]
) -> dict[str, str]:
    """Everything that the trials depend on, by name: settings in words, network and costs (the table) as digests."""
    one_narrower = [
        walls.cost([*walls.channels[:step], width, *walls.channels[step + 1 :]])
        for step, grid in enumerate(walls.grids)
        for width in grid
    ]
    return {
        **context,
        "seed": str(seed),
        "budget": f"{budget.metric} {budget.limit!r}",
        "network": _digest(plain(walls.network)),
        "costs": _digest([walls.smallest_cost, *one_narrower]),
        **{f"search.{name}": str(value) for name, value in config if name != "threads"},
    }


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]

"""The search from first opponent to result: who proposes which policy, in which order, and what is kept.

Order: sensitivities, opponents, `episodes` episodes of the agent, one last episode of the trained actor without noise.
The result is the best reward seen, whoever proposed it, with the budget checked again.

With `warm_start = false` the agent is AMC as published. With `warm_start = true` (our own addition, for searches of a
hundred episodes rather than the paper's four hundred):
* the opponents' policies enter the replay before the first episode, as if the agent had carried them out;
* a share `local_share` of the episodes explores around the best policy found so far rather than around the actor: its
  keep ratios, with truncated-normal noise, scaled back onto the budget. They enter the replay like all others.
"""

from __future__ import annotations

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping

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
from amc_mobile.search.episodes import Episode, nearby, ratios, retrace, walk
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
    walls = Walls(network, cost, budget.limit, config.min_keep_ratio, config.round_to, metric=budget.metric)
    journal = Journal(folder, fingerprint(walls, config, budget, seed, context or {}))
    with one_thread():
        run = Search(walls, table, evaluator, config, budget, seed, journal, folder, progress)
        if config.opponents:
            run.meet_opponents()
        run.play()
    result = run.result()
    write_json(folder.search, result)
    return result


class Search:
    """One search under way: agent and environment, and the journal that says how far it has come."""

    def __init__(
        self,
        walls: Walls,
        table: LatencyTable | None,
        evaluator: PolicyEvaluator,
        config: SearchConfig,
        budget: Budget,
        seed: int,
        journal: Journal,
        folder: RunFolder,
        progress: Progress | None,
    ) -> None:
        self.walls, self.table, self.evaluator, self.config, self.budget = walls, table, evaluator, config, budget
        self.seed, self.journal, self.folder, self.progress = seed, journal, folder, progress
        self.reward = REWARDS[config.reward]
        self.states = States(walls, latency=budget.metric == "latency_us")
        self.env = PruningEnv(walls, self.states, evaluator, self.reward)
        self.agent = DDPG(self.states.features, len(walls.groups), config, seed)
        self.warmup = min(config.warmup_episodes, config.episodes // 2)

    # -------------------------------------------------------------------------------------------------- the opponents

    def meet_opponents(self) -> None:
        """Evaluates the policies that need no learning, each as a trial."""
        blind = opponents.without_evaluations(self.walls, self.config.random_policies, self.seed)
        path, points = self.folder.sensitivity, self.config.sensitivity_points
        if not self.journal.trials:
            path.unlink(missing_ok=True)
        curves = sensitivity.measure(self.walls, self.evaluator, points, path, self._tell)
        for proposal in [*blind, *opponents.from_sensitivities(self.walls, curves)][len(self.journal.trials) :]:
            self._tell_trial(f"opponent {proposal.agent}")
            started = time.perf_counter()
            score = self.evaluator.evaluate(self.walls.policy(proposal.widths))
            self._record(proposal.agent, "opponent", proposal.widths, score, started)

    # -------------------------------------------------------------------------------------------------- the agent

    def play(self) -> None:
        """Plays the episodes that are still to be played, and a last one without noise."""
        opponent_trials = [trial for trial in self.journal.trials if trial.phase == "opponent"]
        if self.journal.agent is not None:
            self.agent.load_state_dict(self.journal.agent)
        elif self.config.warm_start:
            for trial in opponent_trials:
                widths = self._widths(trial)
                self.agent.remember(retrace(self.states, widths), ratios(self.walls, widths), trial.reward)
        for episode in range(len(self.journal.trials) - len(opponent_trials), self.config.episodes + 1):
            self._tell_trial(f"episode {min(episode + 1, self.config.episodes)} of {self.config.episodes}")
            started = time.perf_counter()
            phase, played = self._episode(episode)
            if episode < self.config.episodes:
                self._learn(episode, played)
            self._record(AGENT, phase, played.widths, played.score, started)

    def _episode(self, episode: int) -> tuple[str, Episode]:
        """Plays one episode and says in which phase: warmup, explore, local (around the best), final (no noise)."""
        if self._is_local(episode):
            known = {self._widths(trial) for trial in self.journal.trials}
            sigma = self.config.local_sigma
            aim = ratios(self.walls, nearby(self.walls, self._widths(self._best()), sigma, known, self.agent.rng))
            return "local", walk(self.env, lambda step, _: float(aim[step]), self.walls)
        final = episode == self.config.episodes
        sigma = 0.0 if final else self.agent.sigma(episode, self.warmup)
        phase = "final" if final else "warmup" if episode < self.warmup else "explore"
        return phase, walk(self.env, lambda _, state: self.agent.act(state, sigma), self.walls)

    def _is_local(self, episode: int) -> bool:
        """Whether the episode is one of the evenly spread share that explores around the best policy."""
        share = self.config.local_share if self.config.warm_start and self.journal.trials else 0.0
        return episode < self.config.episodes and int((episode + 1) * share) > int(episode * share)

    def _learn(self, episode: int, played: Episode) -> None:
        self.agent.remember(played.states, played.actions, played.reward)
        if episode >= self.warmup:
            for _ in played.actions:
                self.agent.update()

    # -------------------------------------------------------------------------------------------------- bookkeeping

    def result(self) -> SearchResult:
        """The best trial of all, and the best of every other agent. Raises: BudgetError if it broke the budget."""
        best = self._best()
        spent = self.walls.cost(self._widths(best))
        if spent > self.budget.limit:
            raise BudgetError(
                f"the best policy costs {in_words(spent, self.budget.metric)}, more than the budget of "
                f"{in_words(self.budget.limit, self.budget.metric)}; please report this with {self.folder.root}"
            )
        others = dict.fromkeys(trial.agent for trial in self.journal.trials if trial.agent != AGENT)
        ranked = sorted(self.journal.trials, key=merit, reverse=True)  # stable: of equals the first
        return SearchResult(
            budget=self.budget,
            best=best,
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
        measured = sensitivity.evaluations(self.walls, self.config.sensitivity_points) if self.config.opponents else 0
        self._tell(measured + len(self.journal.trials), 0, what + best)

    def _tell(self, done: int, _total: int, what: str) -> None:
        if self.progress is None:
            return
        total = self.config.episodes + 1
        if self.config.opponents:
            total += sensitivity.evaluations(self.walls, self.config.sensitivity_points)
            total += opponents.COUNT_WITHOUT_RANDOM + self.config.random_policies
        self.progress(done, total, what)


def merit(trial: Trial) -> tuple[float, float]:
    """What trials are ranked by: reward, and of equal rewards the smaller divergence from the original."""
    return trial.reward, -trial.score.kl


def fingerprint(
    walls: Walls, config: SearchConfig, budget: Budget, seed: int, context: Mapping[str, str]
) -> dict[str, str]:
    """Everything that the trials depend on, by name: settings in words, network and costs as digests."""
    network = json.dumps(plain(walls.network), sort_keys=True)
    costs = [
        walls.cost([*walls.channels[:step], width, *walls.channels[step + 1 :]])
        for step, grid in enumerate(walls.grids)
        for width in grid
    ]
    return {
        **dict(context),
        "seed": str(seed),
        "budget": f"{budget.metric} {budget.limit!r}",
        "network": _digest(network),
        "costs": _digest(json.dumps([walls.smallest_cost, *costs])),
        **{f"search.{name}": str(value) for name, value in config},
    }


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]

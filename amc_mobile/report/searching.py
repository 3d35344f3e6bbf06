"""How the widths were found: every trial, and the agents under the same evaluator and budget."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from amc_mobile.report import wording as say
from amc_mobile.report.sources import Sources
from amc_mobile.search.front import front
from amc_mobile.search.goal import WithinBudget, WithinLoss
from amc_mobile.trials import Trial
from amc_mobile.types import ACCURACIES, AccuracyName, Budget, Cost, Metric, TaskName

Merit = Callable[[Trial], tuple[float, ...]]
OPPONENT = "opponent"  # the phase of trials that are not episodes of the agent


@dataclass(frozen=True, slots=True)
class TrialPoint:
    """One evaluated policy, scored on search images. `episode` counts the learning agents' trials from 1; else None.

    `exact` is False where the evaluation was given up early: accuracy and reward are then estimates on fewer images.
    """

    agent: str
    phase: str
    episode: int | None
    cost: float | None  # in the budget's metric
    accuracy: float
    reward: float
    trial: int = 0
    exact: bool = True


@dataclass(frozen=True, slots=True)
class AgentRow:
    """The best policy of one agent within the budget (`within` is False if it never came under the limit).

    `images` are those that its scores rest on: fewer than all if its evaluation was given up as lost.
    """

    agent: str
    trials: int
    cost: Cost
    top1: float | None
    top5: float | None
    kl: float
    reward: float
    within: bool
    chosen: bool
    images: int
    map: float | None = None
    map50: float | None = None


@dataclass(frozen=True, slots=True)
class SearchFacts:
    """The whole search in the budget's metric."""

    metric: Metric
    limit: float | None
    agent: str  # whose policy was chosen
    phase: str  # of the chosen trial
    episodes: int
    warmup_episodes: int  # the last episode of the warm-up
    local_episodes: int  # episodes that explored around the best policy so far, not around the actor
    images: int
    reward_name: str | None
    points: tuple[TrialPoint, ...]
    chosen: TrialPoint
    agents: tuple[AgentRow, ...]  # best first
    front: tuple[TrialPoint, ...]  # nobody is as good and cheaper; cheapest first
    evaluations: int | None  # different networks evaluated in all, single pruned groups included
    least_accuracy: float | None  # accuracy-guaranteed: what the result had to keep on the search images
    by_hand: bool  # the chosen trial was named by the user and need not be the best
    task: TaskName = "classification"
    device: str = ""  # a further device, whose latency is limited

    @property
    def cost_name(self) -> str:
        """What is limited, as "MACs" or "latency on pixel"."""
        return say.cost_name(self.metric, self.device)

    @property
    def accuracy_name(self) -> AccuracyName:
        """The accuracy that the agent is paid by; where it is paid by the divergence, the task's strict one."""
        strict, loose = ACCURACIES[self.task]
        return loose if self.reward_name == loose else strict


def search_facts(sources: Sources) -> SearchFacts | None:
    """The search, or None before its first trial. Works on an unfinished one too."""
    if not sources.trials:
        return None
    search, trials = sources.search, sources.trials
    budget = search.budget if search else Budget(_likely_metric(sources), math.inf)
    budgets = (search.budget, *search.further) if search else ()
    merit = _merit_of(sources, budget)
    named = sources.config.prune.point if sources.config else None
    by_hand = named is not None and named < len(trials)
    best = trials[named or 0] if by_hand else search.best if search else max(trials, key=merit)
    points = _points(trials, budget)
    return SearchFacts(
        metric=budget.metric,
        device=budget.device,
        limit=budget.limit if search else None,
        agent=best.agent,
        phase=best.phase,
        episodes=sum(point.episode is not None for point in points),
        warmup_episodes=max((point.episode or 0 for point in points if point.phase == "warmup"), default=0),
        local_episodes=sum(point.phase == "local" for point in points),
        images=max(trial.score.images for trial in trials),
        reward_name=sources.config.search.reward if sources.config else None,
        points=points,
        chosen=points[best.index] if best.index < len(points) else _points((best,), budget)[0],
        agents=_agent_rows(trials, best, budgets, merit),
        front=_front(trials, points, budget, sources),
        evaluations=(search.evaluations or None) if search else None,
        least_accuracy=search.least_accuracy if search else None,
        by_hand=by_hand,
        task="classification" if best.score.map is None else "detection",
    )


def _likely_metric(sources: Sources) -> Metric:
    """The metric of a search that has not ended: the one its config limits."""
    limited = list(sources.config.budget.limits()) if sources.config else []
    if limited and limited[0] != "latency_us":
        return limited[0]
    return "latency_us" if sources.trials[0].cost.latency_us is not None else "macs"


def _points(trials: tuple[Trial, ...], budget: Budget) -> tuple[TrialPoint, ...]:
    points, episode, images = [], 0, max(trial.score.images for trial in trials)
    for trial in trials:
        episode += trial.phase != OPPONENT
        number = None if trial.phase == OPPONENT else episode
        cost = budget.cost_in(trial.cost)
        exact, share = trial.score.images == images, trial.score.accuracy()
        points.append(TrialPoint(trial.agent, trial.phase, number, cost, share, trial.reward, trial.index, exact))
    return tuple(points)


def _front(
    trials: tuple[Trial, ...], points: tuple[TrialPoint, ...], budget: Budget, sources: Sources
) -> tuple[TrialPoint, ...]:
    """The points of the Pareto front in what the budget limits."""
    found = front(trials, sources.config.search.reward if sources.config else "top1")
    return tuple(points[index] for index in found.metrics.get(budget.key, ()))


def _agent_rows(
    trials: tuple[Trial, ...], best: Trial, budgets: tuple[Budget, ...], merit: Merit
) -> tuple[AgentRow, ...]:
    rows, order = [], {}
    for agent in sorted({trial.agent for trial in trials} | {best.agent}):
        mine = [trial for trial in trials if trial.agent == agent]
        within = [trial for trial in mine if _fits(trial, budgets)]
        chosen = agent == best.agent
        top = best if chosen else max(within or mine, key=merit)
        score, fits = top.score, _fits(top, budgets)
        order[agent] = (fits, merit(top))
        rows.append(
            AgentRow(
                agent,
                len(mine),
                top.cost,
                score.top1,
                score.top5,
                score.kl,
                top.reward,
                fits,
                chosen,
                score.images,
                score.map,
                score.map50,
            )
        )
    return tuple(sorted(rows, key=lambda row: order[row.agent], reverse=True))


def _merit_of(sources: Sources, budget: Budget) -> Merit:
    """How the search ranked its trials."""
    reward = sources.config.search.reward if sources.config else "top1"
    if sources.search is None or sources.search.least_accuracy is None:
        return WithinBudget(reward).merit
    known = (*sources.trials, sources.search.best)
    costs = {trial.kept: budget.cost_in(trial.cost) or 0.0 for trial in known}
    return WithinLoss(reward, sources.search.least_accuracy, lambda kept: costs[tuple(kept)]).merit


def _fits(trial: Trial, budgets: tuple[Budget, ...]) -> bool:
    """Whether the trial keeps every limit whose cost is known."""
    spent = [budget.cost_in(trial.cost) for budget in budgets]
    return all(cost is None or cost <= budget.limit * (1 + 1e-9) for cost, budget in zip(spent, budgets, strict=True))

"""How the widths were found: every trial, and the agents under the same evaluator and budget."""

from __future__ import annotations

from dataclasses import dataclass

from amc_mobile.report.sources import Sources
from amc_mobile.types import Budget, Cost, Metric, Trial

OPPONENT = "opponent"  # the phase of trials that are not episodes of the agent


@dataclass(frozen=True, slots=True)
class TrialPoint:
    """One evaluated policy, scored on search images. `episode` counts the agent's trials from 1; opponents: None."""

    agent: str
    phase: str
    episode: int | None
    cost: float | None  # in the budget's metric
    accuracy: float
    reward: float


@dataclass(frozen=True, slots=True)
class AgentRow:
    """The best policy of one agent within the budget (`within` is False if it never came under the limit)."""

    agent: str
    trials: int
    cost: Cost
    top1: float
    top5: float
    kl: float
    reward: float
    within: bool
    chosen: bool


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
    agents: tuple[AgentRow, ...]  # best reward first


def search_facts(sources: Sources) -> SearchFacts | None:
    """The search, or None before its first trial. Works on an unfinished one too."""
    if not sources.trials:
        return None
    search, trials = sources.search, sources.trials
    metric: Metric = search.budget.metric if search else _likely_metric(sources)
    limit = search.budget.limit if search else None
    budgets = (search.budget, *search.further) if search else ()
    best = search.best if search else max(trials, key=_merit)
    points = _points(trials, metric)
    return SearchFacts(
        metric=metric,
        limit=limit,
        agent=best.agent,
        phase=best.phase,
        episodes=sum(point.episode is not None for point in points),
        warmup_episodes=max((point.episode or 0 for point in points if point.phase == "warmup"), default=0),
        local_episodes=sum(point.phase == "local" for point in points),
        images=best.score.images,
        reward_name=sources.config.search.reward if sources.config else None,
        points=points,
        chosen=TrialPoint(best.agent, best.phase, None, _cost_in(best.cost, metric), best.score.top1, best.reward),
        agents=_agent_rows(trials, best, budgets),
    )


def _likely_metric(sources: Sources) -> Metric:
    """The metric of a search that has not ended: the one its config limits."""
    limited = list(sources.config.budget.limits()) if sources.config else []
    if limited and limited[0] != "latency_us":
        return limited[0]
    return "latency_us" if sources.trials[0].cost.latency_us is not None else "macs"


def _cost_in(cost: Cost, metric: Metric) -> float | None:
    value: float | None = getattr(cost, metric)
    return value


def _points(trials: tuple[Trial, ...], metric: Metric) -> tuple[TrialPoint, ...]:
    points, episode = [], 0
    for trial in trials:
        episode += trial.phase != OPPONENT
        number = None if trial.phase == OPPONENT else episode
        cost = _cost_in(trial.cost, metric)
        points.append(TrialPoint(trial.agent, trial.phase, number, cost, trial.score.top1, trial.reward))
    return tuple(points)


def _agent_rows(trials: tuple[Trial, ...], best: Trial, budgets: tuple[Budget, ...]) -> tuple[AgentRow, ...]:
    rows = []
    for agent in sorted({trial.agent for trial in trials} | {best.agent}):
        mine = [trial for trial in trials if trial.agent == agent]
        within = [trial for trial in mine if _fits(trial, budgets)]
        top = best if agent == best.agent else max(within or mine, key=_merit)
        score, fits = top.score, _fits(top, budgets)
        rows.append(
            AgentRow(
                agent, len(mine), top.cost, score.top1, score.top5, score.kl, top.reward, fits, agent == best.agent
            )
        )
    return tuple(sorted(rows, key=lambda row: (not row.within, -row.reward, row.kl, row.agent)))


def _merit(trial: Trial) -> tuple[float, float]:
    """The order in which the search ranks trials: reward, then the smaller divergence."""
    return trial.reward, -trial.score.kl


def _fits(trial: Trial, budgets: tuple[Budget, ...]) -> bool:
    """Whether the trial keeps every limit whose cost is known."""
    spent = [
        trial.cost.elsewhere_us.get(budget.device) if budget.device else _cost_in(trial.cost, budget.metric)
        for budget in budgets
    ]
    return all(cost is None or cost <= budget.limit * (1 + 1e-9) for cost, budget in zip(spent, budgets, strict=True))

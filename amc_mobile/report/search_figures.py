"""The pictures of the search: reward over episodes, accuracy against cost. Colour and shape both tell agents apart."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from amc_mobile.report import drawing as ink
from amc_mobile.report import wording as say
from amc_mobile.report.drawing import LegendEntry, Picture, canvas, to_svg
from amc_mobile.report.limits import BudgetFacts
from amc_mobile.report.outcome import AccuracyFacts
from amc_mobile.report.searching import AgentRow, SearchFacts, TrialPoint
from amc_mobile.types import ACCURACIES, Metric

_PLAYERS: Final = (  # colour role, marker, and its shape in the legend: many small marks
    ("after", "o", "dot"),
    ("purple", "o", "dot"),
    ("green", "o", "dot"),
    ("amber", "o", "dot"),
)
_OPPONENTS: Final = (  # few large marks
    ("amber", "s", "square"),
    ("green", "^", "up"),
    ("purple", "D", "diamond"),
    ("sky", "v", "down"),
    ("rose", "P", "plus"),
    ("muted", "X", "cross"),
    ("green", "s", "square"),
    ("rose", "D", "diamond"),
    ("sky", "^", "up"),
    ("amber", "v", "down"),
)
_DASHES: Final = ((6.0, 2.0), (2.0, 2.0), (8.0, 2.0, 2.0, 2.0), (4.0, 4.0))
_UNITS: Final[dict[Metric, tuple[float, str]]] = {
    "latency_us": (1e3, "ms"),
    "macs": (1e6, "M"),
    "params": (1e6, "M"),
    "bytes": (1e6, "MB"),
    "memory_bytes": (1e6, "MB"),
}
_REWARDS: Final = {
    "top1": "reward (−top-1 error)",
    "top5": "reward (−top-5 error)",
    "map": "reward (mAP − 1)",
    "map50": "reward (mAP50 − 1)",
    "kl": "reward (−KL divergence, nats)",
}


def players(search: SearchFacts) -> list[str]:
    """The agents that learn from what they tried, in the order of their first trial."""
    return list(dict.fromkeys(point.agent for point in search.points if point.episode is not None))


def opponents(search: SearchFacts) -> list[AgentRow]:
    """The agents that need no learning, best first."""
    learning = players(search)
    return [row for row in search.agents if row.agent not in learning]


def styles(search: SearchFacts) -> dict[str, tuple[str, str, str]]:
    """Colour role, marker and legend shape of every agent, the same in both pictures."""
    learning = sorted(players(search))
    others = sorted(row.agent for row in opponents(search))
    given = {agent: _OPPONENTS[number % len(_OPPONENTS)] for number, agent in enumerate(others)}
    return given | {agent: _PLAYERS[number % len(_PLAYERS)] for number, agent in enumerate(learning)}


def rewards(search: SearchFacts) -> Picture:
    """Reward of every policy of the learning agents, the best so far, and the best of each opponent as a line."""
    points = [point for point in search.points if point.episode is not None]
    rivals = opponents(search)
    title = "Reward of every policy tried"
    best = max(points, key=lambda point: point.reward)
    text = f"{len(points):,} policies. The best reward, {say.signed(best.reward)}, came with number {best.episode:,}."
    if rivals:
        top = max(rivals, key=lambda row: row.reward)
        text += f" Best opponent: {top.agent}, {say.signed(top.reward)}."
    with canvas(250) as (figure, axes):
        _draw_rewards(axes, search, points, rivals)
        svg = to_svg(figure, "rewards", title, text)
    roles = styles(search)
    legend = [LegendEntry("dot", roles[agent][0], agent) for agent in players(search)]
    legend.append(LegendEntry("line", "after", "best so far"))
    if _plain_warmup(search):
        legend.append(LegendEntry("square", "shade", "warm-up"))
    legend += [LegendEntry("dashes", roles[row.agent][0], f"{row.agent} {say.signed(row.reward)}") for row in rivals]
    return Picture("rewards", title, text, svg, tuple(legend))


def _draw_rewards(axes: Axes, search: SearchFacts, points: Sequence[TrialPoint], rivals: Sequence[AgentRow]) -> None:
    episodes, values = [point.episode or 0 for point in points], [point.reward for point in points]
    roles = styles(search)
    if _plain_warmup(search):
        axes.axvspan(0.5, search.warmup_episodes + 0.5, color=ink.SHADE, linewidth=0)
    for agent in players(search):
        mine = [(point.episode, point.reward) for point in points if point.agent == agent]
        colour = ink.STAND_INS[roles[agent][0]]
        axes.plot(*zip(*mine, strict=True), "o", color=colour, markersize=3, alpha=0.55, mew=0)
    axes.step(episodes, list(accumulate(values, max)), where="post", color=ink.AFTER, lw=2)
    for number, row in enumerate(rivals):
        colour = ink.STAND_INS[roles[row.agent][0]]
        axes.axhline(row.reward, color=colour, lw=1.6, dashes=_DASHES[number % len(_DASHES)])
    axes.set_xlim(0, len(points) + 1)
    axes.set_xlabel("policy, after the opponents")
    guaranteed = search.least_accuracy is not None
    axes.set_ylabel("reward (−error × log cost)" if guaranteed else _REWARDS.get(search.reward_name or "", "reward"))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def _plain_warmup(search: SearchFacts) -> bool:
    """Whether the learning began with a warm-up that nobody else's policies interrupt."""
    first = [point for point in search.points if point.episode is not None][: search.warmup_episodes]
    return bool(first) and all(point.phase == "warmup" for point in first)


def trials(search: SearchFacts, budget: BudgetFacts | None, accuracy: AccuracyFacts | None) -> Picture:
    """Accuracy on the search images against cost, every trial; the Pareto front, the wall, the chosen, the original."""
    title = "Accuracy against cost of all trials"
    chosen = search.chosen
    text = (
        f"{len(search.points):,} trials on {search.images:,} search images. Chosen: {chosen.agent}, "
        f"{say.percent(chosen.accuracy)} at {say.in_metric(chosen.cost, search.metric)}. On the Pareto "
        f"front (none is as good and cheaper): {len(search.front):,}."
    )
    if estimates := sum(not point.exact for point in search.points):
        text += f" Given up because they could not win, and estimates on fewer images: {estimates:,}."
    legend = [LegendEntry(shape, role, agent) for agent, (role, _, shape) in sorted(styles(search).items())]
    if search.limit is not None:
        legend.append(LegendEntry("wall", "wall", f"budget {say.in_metric(search.limit, search.metric)}"))
    if search.front:
        legend.append(LegendEntry("line", "ink", "Pareto front"))
    legend.append(LegendEntry("ring", "ink", f"chosen ({chosen.agent})"))
    with canvas(280) as (figure, axes):
        _draw_trials(axes, search)
        if budget is not None and budget.full is not None and accuracy is not None:
            legend.append(
                _mark_original(axes, search, budget.full, accuracy.rows[0].map or accuracy.rows[0].top1 or 0.0)
            )
        svg = to_svg(figure, "trials", title, text)
    return Picture("trials", title, text, svg, tuple(legend))


def _draw_trials(axes: Axes, search: SearchFacts) -> None:
    scale, unit = _UNITS[search.metric]
    learning = players(search)
    for agent, (role, marker, _) in sorted(styles(search).items(), key=lambda item: item[0] not in learning):
        mine = [
            (point.cost / scale, 100 * point.accuracy)
            for point in search.points
            if point.agent == agent and point.cost is not None
        ]
        look = {"ms": 3.6, "alpha": 0.5, "mew": 0} if agent in learning else {"ms": 8, "mec": ink.SURFACE, "mew": 1.2}
        x, y = [place[0] for place in mine], [place[1] for place in mine]
        axes.plot(x, y, marker, color=ink.STAND_INS[role], **look)
    if search.front:
        steps = [((point.cost or 0) / scale, 100 * point.accuracy) for point in search.front]
        right = max(point.cost or 0 for point in search.points) / scale
        axes.step(*zip(*steps, (right, steps[-1][1]), strict=True), where="post", color=ink.INK, lw=1.4)
    if search.limit is not None:
        axes.axvline(search.limit / scale, color=ink.WALL, lw=1.8, dashes=(5, 2.5))
    if search.chosen.cost is not None:
        place = (search.chosen.cost / scale, 100 * search.chosen.accuracy)
        axes.plot(*place, "o", ms=14, mfc="none", mec=ink.INK, mew=1.6)
    axes.set_xlabel(f"{search.cost_name} ({unit})")
    axes.set_ylabel(f"{say.ACCURACY_NAMES[ACCURACIES[search.task][0]]} on search images (%)")
    axes.ticklabel_format(axis="x", useOffset=False)
    axes.locator_params(axis="x", nbins=5)


def _mark_original(axes: Axes, search: SearchFacts, full: float, share: float) -> LegendEntry:
    """Marks the original's cost and its accuracy on test images (the search does not score it).

    Trials crowd at the budget; where the original would squeeze them, it becomes an arrow at the right edge.
    """
    scale = _UNITS[search.metric][0]
    costs = [point.cost for point in search.points if point.cost is not None]
    costs += [search.limit] if search.limit is not None else []
    low, high = (min(costs), max(costs)) if costs else (full, full)
    source = " by the table" if search.metric == "latency_us" else ""
    words = f"original: {say.in_metric(full, search.metric)}{source}, {say.percent(share)} (test images)"
    if full <= high + 1.5 * (high - low):
        axes.plot(full / scale, 100 * share, "D", ms=8, mfc="none", mec=ink.BEFORE, mew=2.2)
        return LegendEntry("hollow", "before", words)
    room = 0.08 * (high - low) or 0.02 * high
    axes.set_xlim((low - room) / scale, (high + room) / scale)
    axes.axhline(100 * share, color=ink.BEFORE, lw=1.2, dashes=(1.5, 2.5))
    axes.plot(1.0, 100 * share, ">", ms=9, color=ink.BEFORE, mew=0, clip_on=False, transform=axes.get_yaxis_transform())
    return LegendEntry("arrow", "before", f"{words}, far to the right")

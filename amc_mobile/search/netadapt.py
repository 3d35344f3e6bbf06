"""NetAdapt (Yang et al., ECCV 2018) as an opponent: cuts one group at a time, by real evaluations.

In each round every group proposes the widest cut of its own that brings the cost down to the round's target; all
proposals are evaluated, and the best one is kept. Short-term fine-tuning is left out for everybody: networks are
repaired by least squares as everywhere here.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from amc_mobile.search.budget import Walls, Widths, replaced
from amc_mobile.search.problem import Problem

AGENT = "netadapt"


def netadapt(problem: Problem) -> None:
    """Cuts from the whole network down, in as many rounds as the evaluations (or else the episodes) allow.

    Down to the budget, or under the accuracy-guaranteed protocol as long as the best proposal is accurate enough. If
    rounds are many because no group reaches a target alone, one common factor does the rest.
    """
    walls, guaranteed, begun = problem.walls, problem.config.protocol == "accuracy", problem.spent
    allowed = problem.config.episodes if problem.left is None else problem.left
    limit = walls.smallest_cost if guaranteed else walls.limit
    shrink = (limit / walls.full_cost) ** (1.0 / _rounds(walls, limit, allowed))
    widths, target = walls.channels, walls.full_cost
    while walls.cost(widths) > limit:
        target = max(min(target, walls.cost(widths)) * shrink, limit)
        offers = list(proposals(walls, widths, target)) or [walls.smallest]
        if problem.spent - begun + len(offers) >= allowed:
            break
        widths = _best_of(problem, offers)
        if guaranteed and walls.holds(widths):
            problem.evaluate(AGENT, "opponent", widths)
        if guaranteed and not problem.goal.enough(problem.probe(widths, AGENT)):
            return
    if not guaranteed:
        problem.evaluate(AGENT, "opponent", walls.project(widths))


def _rounds(walls: Walls, limit: float, allowed: int) -> int:
    """As many rounds as fit, if as many groups propose in each of them as can in the first."""
    fitting = 1
    for count in range(2, allowed):
        first = walls.full_cost * (limit / walls.full_cost) ** (1.0 / count)
        if count * len(list(proposals(walls, walls.channels, first))) >= allowed:
            break
        fitting = count
    return fitting


def _best_of(problem: Problem, offers: list[Widths]) -> Widths:
    def reward(offer: Widths) -> float:
        return problem.goal.reward(problem.probe(offer, AGENT), problem.walls.policy(offer).kept)

    return max(offers, key=reward)


def proposals(walls: Walls, widths: Widths, target: float) -> Iterator[Widths]:
    """For every group that can do it alone: its largest width at which the whole network costs at most `target`.

    If no group can reach the target alone, every group that saves anything offers its smallest width.
    """
    reaching, saving = [], []
    for step, grid in enumerate(walls.grids):

        def cut(width: int, step: int = step) -> Widths:
            return replaced(widths, step, width)

        narrower = [width for width in grid if width < widths[step]]
        fits = bisect_right(narrower, target, key=lambda width: walls.cost(cut(width)))
        if fits:
            reaching.append(cut(narrower[fits - 1]))
        elif narrower and walls.cost(cut(narrower[0])) < walls.cost(widths):
            saving.append(cut(narrower[0]))
    yield from reaching or saving

"""The problem that every agent solves: which widths, under which budget, judged by whom. Agents see nothing else.

An agent is a function of a Problem. It asks `evaluate` for policies within the budget and `probe` for any others, as
often as it likes; `Exhausted` ends it when the run's evaluations are used up. Both answers are remembered on disk, so
that an agent written as if nothing could happen survives everything (journal.py).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from amc_mobile.cost.price import price
from amc_mobile.cost.table import LatencyTable
from amc_mobile.device.protocol import Progress
from amc_mobile.errors import RunFolderError
from amc_mobile.search.budget import Walls, Widths
from amc_mobile.search.evaluator import PolicyEvaluator
from amc_mobile.search.goal import Goal
from amc_mobile.search.journal import Journal, Kept
from amc_mobile.search.sensitivity import Curve, measure
from amc_mobile.search.state import States
from amc_mobile.sections.search import SearchConfig
from amc_mobile.trials import Phase, Trial
from amc_mobile.types import Policy, Score


class Exhausted(Exception):
    """The run may evaluate no further network."""


@dataclass
class Problem:
    """One search under way. `spent` counts the different networks evaluated so far, replayed ones included."""

    walls: Walls
    goal: Goal
    tables: Mapping[str, LatencyTable]
    evaluator: PolicyEvaluator
    config: SearchConfig
    seed: int
    journal: Journal
    progress: Progress | None = None
    expected: int = 0  # evaluations that the agent will ask for, for the progress line
    trials: list[Trial] = field(default_factory=list)  # of this process: recorded ones first, as they are asked for
    _known: dict[Kept, Score] = field(default_factory=dict)
    _curves: tuple[Curve, ...] | None = None

    @property
    def states(self) -> States:
        """What the agent sees before each decision."""
        return States(self.walls, latency=bool(self.tables))

    @property
    def spent(self) -> int:
        """Different networks evaluated."""
        return len(self._known)

    @property
    def left(self) -> int | None:
        """Different networks that may still be evaluated; None: as many as wanted."""
        return None if self.config.evaluations is None else self.config.evaluations - self.spent

    def evaluate(self, agent: str, phase: Phase, widths: Widths) -> Trial:
        """A policy within the budget, evaluated and recorded as the next trial.

        In a resumed search it is the recorded trial: where numbers differ in the last digit, on another machine, its
        widths may be others than those asked for. Raises: Exhausted.
        """
        place = len(self.trials)
        if place < len(self.journal.trials):
            trial = self._recorded(self.journal.trials[place], agent)
        else:
            self._tell(agent if phase == "opponent" else f"{agent}, {phase}")
            started = time.perf_counter()
            kept = self.walls.policy(widths).kept
            score = self._score(kept, None if self.config.protocol == "accuracy" else self.to_beat)
            trial = self._trial(agent, phase, kept, score, round(time.perf_counter() - started, 4))
            self.journal.record(trial)
        self._known.setdefault(trial.kept, trial.score)
        self.trials.append(trial)
        return trial

    def probe(self, widths: Widths, what: str = "") -> Score:
        """The exact score of any widths, within the budget or not; no trial. Raises: Exhausted."""
        kept = self.walls.policy(widths).kept
        known = self._known.get(kept)
        if known is not None and known.images == self.images:
            return known
        if kept in self.journal.probes:
            score = self.journal.probes[kept]
        else:
            self._tell(what)
            score = self._score(kept, None)
            self.journal.note(kept, score)
        self._known[kept] = score
        return score

    @property
    def images(self) -> int:
        """Images of an exact score; those of a network that lost its race are fewer."""
        return max((score.images for score in self._known.values()), default=0)

    def curves(self) -> tuple[Curve, ...]:
        """What every group loses alone: measured once, however many agents ask. Raises: Exhausted."""
        if self._curves is None:
            self._curves = measure(self.walls, self.probe, self.config.sensitivity_points)
        return self._curves

    def take_over(self, curves: Mapping[str, Curve]) -> bool:
        """Curves by group that an earlier search measured, instead of new ones. False: a group has none."""
        found = [curves.get(group.name) for group in self.walls.groups]
        if None in found:
            return False
        self._curves = tuple(curve for curve in found if curve is not None)
        return True

    @property
    def curves_known(self) -> bool:
        """Whether groups were measured alone."""
        return self._curves is not None

    def best(self) -> Trial:
        """The best trial so far; of equals the first. Raises: ValueError before the first trial."""
        return max(self.trials, key=self.goal.merit)

    @property
    def to_beat(self) -> float | None:
        """The best reward so far: what an evaluation must not be certain to miss."""
        if not self.trials or not self.config.racing:
            return None
        return max(trial.reward for trial in self.trials)

    def widths(self, trial: Trial) -> Widths:
        """The widths of a trial's prunable groups."""
        return self.widths_of(trial.kept)

    def widths_of(self, kept: Kept) -> Widths:
        """The widths of the prunable groups among those of all groups."""
        return tuple(kept[group.index] for group in self.walls.groups)

    def _score(self, kept: Kept, to_beat: float | None) -> Score:
        known = self._known.get(kept)
        if known is not None and (to_beat is not None or known.images == self.images):
            return known
        if known is None and self.left is not None and self.left <= 0:
            raise Exhausted
        score = self.evaluator.evaluate(Policy(kept), to_beat)
        self._known[kept] = score
        return score

    def _recorded(self, trial: Trial, agent: str) -> Trial:
        if trial.agent != agent or len(trial.kept) != len(self.walls.network.groups):
            raise RunFolderError(
                f"trial {trial.index} of this search is of agent {trial.agent}, not {agent}; it was made by another "
                "version: search again in another folder with --out DIR"
            )
        return trial

    def _trial(self, agent: str, phase: Phase, kept: Kept, score: Score, seconds: float) -> Trial:
        cost = price(self.walls.network, Policy(kept), self.tables)
        reward = self.goal.reward(score, kept)
        return Trial(len(self.trials), agent, phase, kept, cost, score, reward, seconds)

    def _tell(self, what: str) -> None:
        if self.progress is not None:
            best = f", best reward {self.best().reward:.4f}" if self.trials else ""
            self.progress(self.spent, max(self.expected, self.spent + 1), what + best)

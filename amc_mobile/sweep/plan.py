"""From a grid to jobs: what is shared is made once, what needs a device is kept apart from what needs cores only.

    original-s0 ──┬── table-pixel ──┐
                  └─────────────────┴── search ── settle (on the device) ── cut ── bench (on the device)

Every job is some stages of one run folder. Stages that another folder finished from the same inputs are taken from it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from amc_mobile.runs import file_name
from amc_mobile.sections.budget import BudgetConfig
from amc_mobile.sections.search import AgentName
from amc_mobile.sweep.settings import SweepConfig, budget_name

Step = Literal["original", "table", "search", "settle", "cut", "bench"]
SHARED_STAGES: dict[Step, tuple[str, ...]] = {
    "original": ("train", "graph", "calibrate"),
    "table": ("train", "graph", "profile"),
}
ON_DEVICE: tuple[Step, ...] = ("table", "settle", "bench")
SHARED = "shared"  # the folder of what several runs use


@dataclass(frozen=True, slots=True)
class Point:
    """One run of the grid. `agent` is None for the run's own."""

    device: str
    budget: BudgetConfig
    seed: int
    agent: AgentName | None = None

    @property
    def variant(self) -> str:
        """What it has in common with the runs that differ by their seed only."""
        return "-".join(filter(None, (file_name(self.device), budget_name(self.budget), self.agent)))

    @property
    def name(self) -> str:
        """Its folder: "pixel-latency0.5-s0"."""
        return f"{self.variant}-s{self.seed}"


@dataclass(frozen=True, slots=True)
class Job:
    """Some stages of the run in `folder` (below the sweep's own). `device` is empty for what needs cores only."""

    folder: str
    step: Step
    stages: tuple[str, ...]
    after: tuple[str, ...] = ()  # names of jobs
    reuse: tuple[str, ...] = ()  # folders of finished stages
    device: str = ""

    @property
    def name(self) -> str:
        """Of the job, unique in a sweep."""
        return f"{self.folder} {self.step}"


def grid(config: SweepConfig, device: str, budget: BudgetConfig, seed: int) -> tuple[Point, ...]:
    """All runs of a sweep; the single values stand for what is not varied."""
    return tuple(
        Point(name, limits, number, agent)
        for number in config.seeds or [seed]
        for limits in config.budgets or [budget]
        for agent in (*config.agents,) or (None,)
        for name in config.devices or [device]
    )


def original_folder(seed: int) -> str:
    """Where the trained network, its graph and its calibration under this seed are made."""
    return f"{SHARED}/original-s{seed}"


def table_folder(device: str) -> str:
    """Where the device's latency table is made."""
    return f"{SHARED}/table-{file_name(device)}"


def jobs(
    points: Sequence[Point], stages: Callable[[Point], Sequence[str]], measured: Collection[str] = ()
) -> tuple[Job, ...]:
    """The jobs of a grid in an order in which they could be done one by one.

    `stages` are those of a run, in their order; `measured` are devices whose table is there already.
    """
    seeds = dict.fromkeys(point.seed for point in points)
    devices = [name for name in dict.fromkeys(point.device for point in points) if name not in measured]
    first = original_folder(next(iter(seeds), 0))
    found = [Job(original_folder(seed), "original", SHARED_STAGES["original"]) for seed in seeds]
    for name in devices:
        after, reuse = (f"{first} original",), (first,)
        found.append(Job(table_folder(name), "table", SHARED_STAGES["table"], after, reuse, name))
    for point in points:
        found += _of_one_run(point, steps(stages(point)), point.device in devices)
    return tuple(found)


def steps(stages: Sequence[str]) -> dict[Step, tuple[str, ...]]:
    """The stages of a run by the step that does them: the search and all before, settling, what is between, the rest.

    >>> steps(("train", "profile", "search", "prune", "export", "bench", "report"))["cut"]
    ('prune', 'export')
    """
    searched = max(stages.index(name) for name in ("search", "refine") if name in stages) + 1
    timed = stages.index("bench")
    cut = tuple(stage for stage in stages[searched:timed] if stage != "settle")
    settle = ("settle",) if "settle" in stages else ()
    found: dict[Step, tuple[str, ...]] = {
        "search": tuple(stages[:searched]),
        "settle": settle,
        "cut": cut,
        "bench": tuple(stages[timed:]),
    }
    return {step: those for step, those in found.items() if those}


def _of_one_run(point: Point, parts: Mapping[Step, tuple[str, ...]], with_table: bool) -> Iterable[Job]:
    """The jobs of one run, one after the other."""
    original, table = original_folder(point.seed), table_folder(point.device)
    after = (f"{original} original", *((f"{table} table",) if with_table else ()))
    for step, stages in parts.items():
        reuse = (original,) if step == "search" else ()
        job = Job(point.name, step, stages, after, reuse, point.device if step in ON_DEVICE else "")
        yield job
        after = (job.name,)

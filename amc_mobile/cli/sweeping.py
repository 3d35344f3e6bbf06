"""A sweep on disk: the settings of every run, what is done of it, and the orders to the nodes that do the rest."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from amc_mobile import config as configuration
from amc_mobile.cli import pipeline
from amc_mobile.cli.checks import check
from amc_mobile.cli.open_device import check_device, is_here
from amc_mobile.cli.settings import differences, override, with_data_folder
from amc_mobile.cli.stage_list import stages
from amc_mobile.errors import ConfigError, DeviceError, RunFolderError
from amc_mobile.report.sweep import INDEX
from amc_mobile.runs import RunFolder, write_json, write_text
from amc_mobile.sweep import plan
from amc_mobile.sweep.attempt import ALONE, Order
from amc_mobile.sweep.on_ray import Room, resource
from amc_mobile.sweep.settings import limits_of

if TYPE_CHECKING:
    from amc_mobile.config import RunConfig
    from amc_mobile.sections.budget import BudgetConfig
    from amc_mobile.sweep.board import Board
    from amc_mobile.sweep.plan import Job, Point
    from amc_mobile.sweep.settings import SweepConfig

_CONFIGS = "configs"


@dataclass(frozen=True, slots=True)
class Sweep:
    """Everything that is to be done below `root`: the grid, its jobs, and the settings of each folder."""

    root: Path
    settings: SweepConfig
    points: tuple[Point, ...]
    jobs: tuple[Job, ...]
    configs: Mapping[str, RunConfig]  # by folder below the root
    update: bool = False
    module: str = ALONE

    @property
    def devices(self) -> list[str]:
        """Each once."""
        return list(dict.fromkeys(point.device for point in self.points))

    def config_file(self, folder: str) -> Path:
        """Where the settings of a folder stand, for `amc run`."""
        return self.root / _CONFIGS / f"{folder.rpartition('/')[2]}.toml"

    @property
    def jobs_file(self) -> Path:
        """Every attempt at a job: where and when it ran, how it ended."""
        return self.root / "jobs.jsonl"

    def log(self, folder: str) -> Path:
        """What the jobs of a folder said, attempt after attempt."""
        return self.root / "logs" / f"{folder.rpartition('/')[2]}.log"

    def done(self) -> set[str]:
        """The jobs that are finished from the inputs of today."""
        return {job.name for job in self.jobs if self.is_done(job)}

    def is_done(self, job: Job) -> bool:
        """Whether all stages of a job are finished from the inputs of today."""
        config = self.configs[job.folder]
        if not config.out.is_dir():
            return False
        work = pipeline.Pipeline(RunFolder(config.out), config)
        return all(work.finished(stage) for stage in job.stages)

    def order(self, job: Job) -> Order:
        """What a node is told to do."""
        arguments = ["run", str(self.config_file(job.folder))]
        arguments += [word for stage in job.stages for word in ("--stage", stage)]
        arguments += [word for folder in job.reuse for word in ("--reuse", str(self.root / folder))]
        arguments += [] if job.device else ["--elsewhere"]
        arguments += ["--update"] if self.update else []
        gpu = self.settings.gpus > 0 if not job.device else job.device.startswith("cuda")
        return Order(tuple(arguments), str(Path.cwd()), str(self.log(job.folder)), gpu, self.module)

    def prepare(self) -> None:
        """Makes the folder, with the settings of every run in it.

        Raises: RunFolderError if it holds something else, or runs with other settings and `update` is not set.
        """
        index = self.root / INDEX
        if self.root.is_dir() and not index.is_file() and any(path.name != ".lock" for path in self.root.iterdir()):
            raise RunFolderError(f"{self.root} is not empty and holds no sweep; choose another with --out DIR")
        for config in self.configs.values():
            made = RunFolder(config.out).config
            changed = differences(configuration.load(made), config) if made.is_file() else []
            if changed and not self.update:
                raise RunFolderError(
                    f"{config.out} was made with other settings ({'; '.join(changed)}); choose another --out, or "
                    "--update to redo what depends on them"
                )
        RunFolder(self.root).create()
        (self.root / _CONFIGS).mkdir(exist_ok=True)
        for folder, config in self.configs.items():
            write_text(self.config_file(folder), configuration.dump(config))

    def write_index(self, board: Board) -> None:
        """sweep.json: all runs, and what became of each."""
        runs = [
            {
                "name": point.name,
                "variant": point.variant,
                "device": point.device,
                "limits": limits_of(point.budget),
                "agent": point.agent or self.configs[point.name].search.agent,
                "seed": point.seed,
                "complete": board.states[f"{point.name} bench"] == "done",
                "problem": board.problem_of(point.name),
            }
            for point in self.points
        ]
        model = next(iter(self.configs.values())).model.name
        write_json(self.root / INDEX, {"schema": 1, "model": model, "runs": runs})

    def room(self) -> Room:
        """What jobs claim of the nodes."""
        here = [name for name in self.devices if is_here(name)]
        names = {name: host_resource(name) if is_here(name) else resource(name) for name in self.devices}
        return Room(self.settings.cpus, self.settings.gpus, names, frozenset(here))


def resolve(
    settings: SweepConfig, base: RunConfig, out: Path | None, data: Path | None, *, update: bool, module: str = ALONE
) -> Sweep:
    """The sweep that these settings mean, every path in it absolute, for nodes have other working folders.

    Raises: AmcError for what can be seen to be wrong before anything costs time.
    """
    root = (out or base.out).absolute()
    base = _absolute(base, Path.cwd() if data is None else data.absolute())
    base = override(base, {"search.threads": base.search.threads or settings.cpus})
    points = plan.grid(settings, base.device.name, base.budget, base.seed)
    tables = _tables(settings, base, points)
    configs: dict[str, RunConfig] = {}
    for point in points:
        original, made = plan.original_folder(point.seed), plan.table_folder(point.device)
        place = {"device.name": point.device}
        configs.setdefault(original, override(base, {"out": root / original, "seed": point.seed}))
        if point.device not in tables:
            configs.setdefault(made, override(base, {**place, "out": root / made, "seed": points[0].seed}))
        budget = {"budget": _absolute_budget(point.budget), "search.agent": point.agent, "seed": point.seed}
        config = override(base, {**place, **budget, "out": root / point.name})
        check(override(config, {"profile.elsewhere": True}))
        table = tables.get(point.device, root / made / "table.json")
        configs[point.name] = override(config, {"profile.table": table})
    jobs = plan.jobs(points, lambda point: _stages(configs[point.name]), list(tables))
    return Sweep(root, settings, points, jobs, configs, update, module)


def _stages(config: RunConfig) -> list[str]:
    return [stage.name for stage in stages(config)]


def _tables(settings: SweepConfig, base: RunConfig, points: Sequence[Point]) -> dict[str, Path]:
    """The tables that were measured before, by device. Raises: ConfigError for settings that no sweep can have."""
    if numbered := [point.device for point in points if point.device.startswith("cuda:")]:
        raise ConfigError(f"GPUs are dealt out by Ray: write cuda instead of {numbered[0]}")
    if base.profile.elsewhere:
        raise ConfigError("a sweep times networks on its devices: leave out profile.elsewhere (or use `amc search`)")
    tables = {name: path.absolute() for name, path in settings.tables.items()}
    if base.profile.table is None:
        return tables
    devices = list(dict.fromkeys(point.device for point in points))
    if len(devices) > 1:
        raise ConfigError(f"profile.table is of one device, and there are {len(devices)}: use sweep.tables instead")
    return {devices[0]: base.profile.table} | tables


def _absolute(base: RunConfig, folder: Path) -> RunConfig:
    """The run with files looked for in a folder, and its table in the working folder."""
    table = None if base.profile.table is None else base.profile.table.absolute()
    return override(with_data_folder(base, folder), {"profile.table": table})


def _absolute_budget(budget: BudgetConfig) -> BudgetConfig:
    return budget.model_copy(
        update={"also": [each.model_copy(update={"table": each.table.absolute()}) for each in budget.also]}
    )


def check_here(sweep: Sweep) -> None:
    """For a sweep on this machine alone. Raises: DeviceError for a device that is not here, or stands there twice."""
    from amc_mobile.cli.phones import look_up

    places: dict[object, str] = {}
    for name in sweep.devices:
        check_device(next(sweep.configs[point.name] for point in sweep.points if point.device == name).device)
        named = None if is_here(name) else look_up(name)
        place = name if named is None else named.address
        if place in places:
            raise DeviceError(f"{places[place]} and {name} are one phone: name it once")
        places[place] = name


def host_resource(name: str) -> str:
    """The resource of a device of this machine: its kind of processor and cores, and of GPU if it is one."""
    from amc_mobile.device.machine import cpu_model

    gpu = f" {_gpu()}" if name.startswith("cuda") else ""
    return resource(f"{name.partition(':')[0]}/{cpu_model()} x{cores()}{gpu}")


def gpu_resources() -> list[str]:
    """What this machine offers by its GPU: a resource for torch and one for ONNX Runtime; nothing without one.

    Jobs on either claim the GPU itself, too, so that only one of them runs at a time.
    """
    return [host_resource(name) for name in ("cuda", "cuda-ort")] if _gpu() else []


def _gpu() -> str:
    """The kind of the first GPU that torch can use; empty if there is none."""
    from amc_mobile.device import gpu

    return next((info.model for info in gpu.describe()), "")


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))

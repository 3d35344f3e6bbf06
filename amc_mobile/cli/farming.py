"""A sweep at work: Ray, the nodes, the jobs, and the page about all of it; what it would do; how a node joins."""

from __future__ import annotations

import contextlib
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amc_mobile.cli.aliases import defaults
from amc_mobile.cli.console import note, print_json, print_table
from amc_mobile.cli.forecast import size
from amc_mobile.cli.lock import locked
from amc_mobile.cli.open_device import is_here
from amc_mobile.cli.sweep_view import watched
from amc_mobile.cli.sweeping import cores, gpu_resources, host_resource
from amc_mobile.errors import ConfigError, SweepError
from amc_mobile.report import wording as say
from amc_mobile.report.sweep import gather_sweep
from amc_mobile.report.sweep_page import sweep_lines, write_sweep_report
from amc_mobile.runs import RunFolder, plain
from amc_mobile.sweep.board import Board
from amc_mobile.sweep.drive import drive
from amc_mobile.sweep.on_ray import SETTINGS, RayFarm, import_ray, resource, started

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from amc_mobile.cli.sweeping import Sweep
    from amc_mobile.sweep.plan import Job


def conduct(sweep: Sweep, address: str | None) -> None:
    """Does what is left of a sweep and writes its report.

    Raises: SweepError if runs failed, when the others are done and the report is written; DeviceError, RunFolderError,
    ConfigError before anything is begun.
    """
    import_ray()  # whether it is installed is told before anything is made
    sweep.prepare()
    with locked(sweep.root):
        RunFolder(sweep.root).sweep()
        board = Board(sweep.jobs, sweep.done())
        sweep.write_index(board)
        if board.over:
            note(f"{sweep.root} is complete")
        else:
            _work(sweep, board, address)
        write_sweep_report(sweep.root)
    if board.problems:
        raise SweepError(_failure(sweep, board))


def _work(sweep: Sweep, board: Board, address: str | None) -> None:
    room = sweep.room()
    note(f"     sweep  {len(board.before)} of {len(board.jobs)} jobs are done before; results go to {sweep.root}")
    with started(address, sorted(set(room.resources.values())), cores()) as ray, watched(sweep, board) as view:
        farm = RayFarm(ray, room, sweep.order)
        farm.require(sweep.devices)
        for odd in farm.check_nodes(sweep.root):
            note(f"     sweep  {odd}")
        for device in sweep.devices:
            if not is_here(device):
                check_alias(sweep, device, farm.ask(device, alias_there, device, str(Path.cwd())))
        try:
            drive(board, farm, view)
        finally:
            farm.stop()
            sweep.write_index(board)


def alias_there(device: str, folder: str) -> dict[str, Any]:
    """How devices.toml wants a phone measured, where jobs run in that folder. A question to a node."""
    with contextlib.chdir(folder):
        return defaults(device)


def check_alias(sweep: Sweep, device: str, told: Sequence[Mapping[str, Any]]) -> None:
    """Raises: ConfigError if a node's devices.toml wants a phone measured otherwise than the sweep's settings say."""
    settings = next(sweep.configs[point.name] for point in sweep.points if point.device == device).device
    for wanted in told:
        for key, value in wanted.items():
            if (ours := getattr(settings, key)) != value:
                raise ConfigError(
                    f"devices.toml of the node that has {device} says {key} = {value}, and this sweep {ours}: make "
                    f"them equal, with device.{key} in the sweep's file or [{device}] in the devices.toml here"
                )


def _failure(sweep: Sweep, board: Board) -> str:
    """What failed first, where it says more, and what to type."""
    name, problem = next(iter(board.problems.items()))
    left_out = f", {count} that follow from them were left out" if (count := board.count("left out")) else ""
    return (
        f"{len(board.problems)} of {len(board.jobs)} jobs failed{left_out}; {name}: {problem} (its log: "
        f"{sweep.log(board.jobs[name].folder)}); the same command tries them again"
    )


def report_sweep(root: Path, as_json: bool) -> None:
    """Writes the page again, from the runs as they are now, and prints what came of them."""
    write_sweep_report(root)
    show_sweep(root, as_json)


def show_sweep(root: Path, as_json: bool) -> None:
    """Prints what came of a sweep on stdout: for each device the front, and what failed."""
    facts = gather_sweep(root)
    if as_json:
        print_json(plain(facts))
    else:
        print("\n".join(sweep_lines(facts, root)))


def show_plan(sweep: Sweep, as_json: bool) -> None:
    """Prints all jobs with their state, what each claims, and about how much it is."""
    board = Board(sweep.jobs, sweep.done())
    rows: list[dict[str, Any]] = [
        {
            "run": job.folder,
            "step": job.step,
            "state": "done before" if board.states[job.name] == "done" else "to do",
            "claims": _claims(sweep, job),
            "size": _size(sweep, job),
        }
        for job in sweep.jobs
    ]
    if as_json:
        print_json({"folder": str(sweep.root), "runs": len(sweep.points), "jobs": rows})
        return
    to_do = len(rows) - len(board.before)
    print(f"would do {to_do} of {len(rows)} jobs of {len(sweep.points)} runs in {sweep.root}; nothing is done now")
    print_table([tuple(rows[0]), *(tuple(say.plain_ascii(cell) for cell in row.values()) for row in rows)])


def _claims(sweep: Sweep, job: Job) -> str:
    if not job.device:
        gpus = f", {sweep.settings.gpus:g} GPU" if sweep.settings.gpus else ""
        return f"{sweep.settings.cpus} core(s){gpus}"
    return f"{job.device}, a node to itself" if job.device in sweep.room().whole_node else job.device


def _size(sweep: Sweep, job: Job) -> str:
    """How much work the largest of its stages is."""
    sizes = [size(stage, sweep.configs[job.folder]) for stage in job.stages]
    return next((text for text in reversed(sizes) if text), "")


def show_join(address: str | None, as_json: bool) -> None:
    """Prints the command with which this machine joins a cluster, offering its processor and the phones ready here."""
    from amc_mobile.cli.console import working
    from amc_mobile.cli.phones import ready_names

    with working():
        offers = [host_resource("host"), *gpu_resources(), *map(resource, ready_names())]
    resources = json.dumps(dict.fromkeys(offers, 1))
    settings = " ".join(f"{name}={value}" for name, value in SETTINGS.items())
    join = f"{settings} ray start --address={address or 'HEAD:6379'} --resources={shlex.quote(resources)}"
    head = f"{settings} ray start --head --port=6379 --resources={shlex.quote(resources)}"
    if as_json:
        print_json({"offers": offers, "join": join, "head": head})
        return
    print(join)
    if address is None:
        note("HEAD is the first machine; there, `--head --port=6379` stands in the place of --address")

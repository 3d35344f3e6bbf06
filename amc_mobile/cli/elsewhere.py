"""A finished run's networks on its own device and on others: one file per device, one report of all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amc_mobile.cli.benching import bench_device
from amc_mobile.cli.console import note, progress_line, working
from amc_mobile.cli.lock import locked
from amc_mobile.cli.many import on_all
from amc_mobile.cli.open_device import check_device, open_device
from amc_mobile.cli.session import Session
from amc_mobile.cli.settings import override
from amc_mobile.cli.tables import table_of
from amc_mobile.config import RunConfig
from amc_mobile.runs import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from amc_mobile.cli.pipeline import Pipeline
    from amc_mobile.config import DeviceConfig
    from amc_mobile.device.protocol import Progress


def bench_on(
    pipeline: Pipeline,
    names: Sequence[str | None],
    changes: Mapping[str, object],
    *,
    table: Path | None,
    again: bool,
) -> list[Path]:
    """Times original and pruned network on each device, None and the config's name being the run's own.

    Writes comparison.json, devices/NAME.json and the report; answers the files of the comparisons.
    Raises: DeviceError if some devices failed, when the others are done and the report is written.
    """
    own = pipeline.config.device.name
    others = [name for name in names if name not in (None, own)]
    configs = {name: override(RunConfig(), {"device.name": name, **changes}).device for name in others}
    for config in configs.values():
        check_device(config)
    paths = []
    if len(others) < len(names):
        pipeline.run(("bench",), again=again)
        paths.append(pipeline.folder.comparison)
    try:
        if configs:
            _bench_elsewhere(pipeline, configs, table, again)
    finally:
        _report(pipeline)
    return [*paths, *(pipeline.folder.device_comparison(name) for name in configs)]


def _bench_elsewhere(pipeline: Pipeline, configs: Mapping[str, DeviceConfig], table: Path | None, again: bool) -> None:
    """Phones work at the same time, devices of this machine one after the other."""
    with locked(pipeline.folder.root), working():
        session = Session(pipeline.folder, pipeline.config)
        session.traced  # noqa: B018 - read once, before several threads use it
        todo = [name for name, config in configs.items() if again or not _done(session, config)]

        def work(name: str, progress: Progress) -> None:
            _bench(session, configs[name], table, progress)

        if len(todo) == 1:
            with progress_line("bench") as progress:
                work(todo[0], progress)
        else:
            on_all(todo, work)


def _bench(session: Session, config: DeviceConfig, table: Path | None, progress: Progress) -> None:
    device = open_device(config, force=session.config.profile.force)
    known = table_of(device.info(), session.config.model.name, session.model_sha256, table)
    found = bench_device(session, device, progress, table=known)
    path = session.folder.device_comparison(config.name)
    path.parent.mkdir(exist_ok=True)
    write_json(path, found)


def _done(session: Session, config: DeviceConfig) -> bool:
    """Whether that device timed this very network before, under the same settings."""
    path = session.folder.device_comparison(config.name)
    if not path.is_file():
        return False
    found = read_json(path)
    info = found["device"]
    same = all(info[key] == getattr(config, key) for key in ("threads", "precision", "batch", "optimisation"))
    same_provider = info["provider"].lower().startswith(config.provider)
    same_cores = config.cores is None or info["details"].get("cores") == ",".join(map(str, config.cores))
    if found["model_sha256"] != session.folder.model_sha256() or not (same and same_provider and same_cores):
        return False
    note(f"{config.name}: done before; --again measures again")
    return True


def _report(pipeline: Pipeline) -> None:
    """The report of what there is: with the stage's own summary where the networks were tested, else without."""
    from amc_mobile.report.write import write_report

    if pipeline.finished("bench") and pipeline.finished("evaluate"):
        pipeline.run(("report",), again=True)
        return
    with locked(pipeline.folder.root):
        write_report(pipeline.folder)
    note(f"    report  {pipeline.folder.report}; `amc report {pipeline.folder.root}` tests the networks' accuracy, too")

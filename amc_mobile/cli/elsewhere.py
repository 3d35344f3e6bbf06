"""A finished run's networks on its own device and on others: one file per device, one report of all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amc_mobile.cli.benching import bench_device
from amc_mobile.cli.console import note, progress_line, working
from amc_mobile.cli.lock import locked
from amc_mobile.cli.many import on_all
from amc_mobile.cli.open_device import check_device, is_here, open_device
from amc_mobile.cli.session import Session
from amc_mobile.cli.settings import override
from amc_mobile.cli.tables import table_of
from amc_mobile.config import RunConfig
from amc_mobile.errors import ConfigError
from amc_mobile.measurements import DeviceInfo
from amc_mobile.runs import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from amc_mobile.cli.pipeline import Pipeline
    from amc_mobile.device.protocol import Progress
    from amc_mobile.sections.device import DeviceConfig


def bench_on(
    pipeline: Pipeline,
    names: Sequence[str | None],
    changes: Mapping[str, object],
    *,
    table: Path | None,
    again: bool,
) -> list[Path]:
    """Times original and pruned network on each device, None and the config's name being the run's own.

    Writes comparison.json, devices/NAME.json and the report; answers the files of the comparisons. With other settings
    than its own the run's device is a further one, and every device gets a file of its own for them.
    Raises: DeviceError if some devices failed, when the others are done and the report is written.
    """
    own = pipeline.config.device
    configs: dict[str, DeviceConfig] = {}
    places: dict[str, Path] = {}
    for name in dict.fromkeys(name or own.name for name in names):
        base = pipeline.config if name == own.name else RunConfig()
        plain, config = (override(base, {"device.name": name, **more}).device for more in ({}, changes))
        if config != own:
            configs[name], places[name] = config, pipeline.folder.device_comparison(_label(config, plain))
            check_device(config)
    if any(config.precision == "int8" for config in configs.values()) and not pipeline.config.quantises:
        raise ConfigError(
            f"{pipeline.folder.root} has no networks in int8: its int8.enabled is false; set it to true in a copy of "
            "its config.toml and type `amc run COPY --update`"
        )
    paths: list[Path] = []
    before = _written([pipeline.folder.comparison, *places.values()])
    pipeline.run(("quantise",))
    if any((name or own.name) not in configs for name in names):
        pipeline.run(("bench",), again=again)
        paths.append(pipeline.folder.comparison)
    try:
        if configs:
            _bench_elsewhere(pipeline, configs, places, table, again)
    finally:
        if _written([pipeline.folder.comparison, *places.values()]) != before or not pipeline.folder.report.is_file():
            _report(pipeline)
    return [*paths, *places.values()]


def _written(paths: Sequence[Path]) -> list[int]:
    """When each of the files was written, 0 for never."""
    return [path.stat().st_mtime_ns if path.is_file() else 0 for path in paths]


def _label(config: DeviceConfig, plain: DeviceConfig) -> str:
    """The device's name and what is measured otherwise than its plain name says: "pixel-t2-int8"."""
    said = {
        "threads": f"t{config.threads}",
        "precision": config.precision,
        "provider": config.provider,
        "cores": f"cores{'_'.join(map(str, config.cores or ()))}",
    }
    return "-".join([config.name, *(text for key, text in said.items() if getattr(config, key) != getattr(plain, key))])


def _bench_elsewhere(
    pipeline: Pipeline,
    configs: Mapping[str, DeviceConfig],
    places: Mapping[str, Path],
    table: Path | None,
    again: bool,
) -> None:
    """Phones work at the same time, devices of this machine one after the other."""
    with locked(pipeline.folder.root), working():
        session = pipeline.session()
        session.traced  # noqa: B018 - read once, before several threads use it
        todo = [name for name, config in configs.items() if again or not _done(session, config, places[name], table)]

        def work(name: str, progress: Progress) -> None:
            _bench(session, configs[name], places[name], table, progress)

        if len(todo) == 1:
            with progress_line("bench") as progress:
                work(todo[0], progress)
        else:
            on_all(todo, work)


def _bench(session: Session, config: DeviceConfig, place: Path, table: Path | None, progress: Progress) -> None:
    device = open_device(config, force=session.config.profile.force)
    known = table_of(device.info(), session.config.model.name, session.model_sha256, table)
    found = bench_device(session, device, progress, table=known)
    place.parent.mkdir(exist_ok=True)
    write_json(place, found)


def _done(session: Session, config: DeviceConfig, place: Path, table: Path | None) -> bool:
    """Whether that device timed this very network before, under the same settings."""
    from android_bench.device import PROVIDERS

    if not place.is_file():
        return False
    found = read_json(place)
    info = found["device"]
    foreseen = found["predicted_us"] is not None or session.fine_grained
    if not foreseen and table_of(DeviceInfo(**info), session.config.model.name, session.model_sha256, table):
        return False  # a table was made since
    same = all(info[key] == getattr(config, key) for key in ("threads", "precision", "batch", "optimisation"))
    same_provider = is_here(config.name) or info["provider"] == PROVIDERS[config.provider]
    same_cores = config.cores is None or info["details"].get("cores") == ",".join(map(str, config.cores))
    int8 = found.get("int8_sha256", "")
    if (
        int8 not in ("", session.folder.int8_sha256())
        or found["model_sha256"] != session.folder.model_sha256()
        or not (same and same_provider and same_cores)
    ):
        return False
    note(f"{config.name}: done before; --again measures again")
    return True


def _report(pipeline: Pipeline) -> None:
    """The report of what there is: with the stage's own summary where the networks were tested, else without."""
    from amc_mobile.report.write import write_report

    if pipeline.finished("bench") and pipeline.finished("evaluate"):
        pipeline.run(("report",), again=True)
        return
    of_another = [name for name in ("evaluate", "bench") if not pipeline.finished(name)]  # or not there at all
    with locked(pipeline.folder.root):
        write_report(pipeline.folder, without=("report", *of_another))
    note(f"    report  {pipeline.folder.report}; `amc report {pipeline.folder.root}` tests the networks' accuracy, too")

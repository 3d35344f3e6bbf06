"""`amc transfer` as a whole: the folder, the trainings, the clock, what came of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from amc_mobile import config as configuration
from amc_mobile.cli.console import note, print_json, print_table, working
from amc_mobile.cli.contenders import check_opponents, check_run
from amc_mobile.cli.lock import locked
from amc_mobile.cli.settings import differences, override
from amc_mobile.cli.transferring import Trainings
from amc_mobile.config import TransferConfig
from amc_mobile.errors import ConfigError, RunFolderError
from amc_mobile.models.paired import accuracy_interval, difference_interval
from amc_mobile.runs import RunFolder, file_name, read_json, write_json, write_text
from amc_mobile.sections.data import TransferDataConfig
from amc_mobile.sections.device import DeviceConfig
from amc_mobile.sections.finetune import TransferFinetuneConfig
from amc_mobile.toml_files import read_toml
from amc_mobile.transfers import Contender, Gap, TransferResult

if TYPE_CHECKING:
    from collections.abc import Mapping

    from amc_mobile.cli.pipeline import Pipeline
    from amc_mobile.cli.transfer_clock import Times
    from amc_mobile.config import ContenderName

_SCHEMA = 1
_HARMLESS = ("run", "out", "against", "seeds", "device", "bench")  # what was trained stays good


def settings_of(
    pipeline: Pipeline, data: str, device: str | None, file: Path | None, given: Mapping[str, object]
) -> TransferConfig:
    """What the run says of training and device, over it the file's settings, over them those of the command line.

    Another `device` than the run's has settings of its own.

    Raises: ConfigError.
    """
    run = pipeline.config
    check_run(run)
    own = TransferFinetuneConfig().model_dump(include={"epochs", "learning_rate", "distillation"})
    finetune = run.finetune.model_dump() | own
    base = TransferConfig(
        run=run.out,
        out=run.out / "transfer" / folder_name(data),
        seed=run.seed,
        data=TransferDataConfig(name=data),
        finetune=TransferFinetuneConfig(**finetune),
        device=run.device if device in (None, run.device.name) else DeviceConfig(name=device),
        bench=run.bench,
    )
    return override(override(base, _of_file(file)), given)


def folder_name(data: str) -> str:
    """A folder for the images of a spec: "imagefolder:/data/flowers" is "flowers".

    >>> folder_name("imagefolder:/data/flowers/"), folder_name("shapes.npz"), folder_name("digits")
    ('flowers', 'shapes', 'digits')
    """
    return file_name(Path(data.rpartition(":")[2]).stem or "data")


def open_folder(config: TransferConfig, *, update: bool, fresh: bool) -> RunFolder:
    """The transfer's folder, made if need be. Call it under no lock.

    Raises: RunFolderError if it holds a transfer with other settings, and neither `update` nor `fresh` is set.
    """
    folder = RunFolder(config.out)
    if folder.config.is_file() and not (update or fresh):
        changed = differences(configuration.load_as(TransferConfig, folder.config), config, _HARMLESS)
        if changed:
            raise RunFolderError(
                f"{folder.root} was made with other settings ({'; '.join(changed)}); choose another --out, --update to "
                "train again, or --fresh to start over"
            )
    elif not folder.config.is_file() and folder.root.is_dir() and set(folder.root.iterdir()) - {folder.root / ".lock"}:
        raise RunFolderError(f"{folder.root} is not empty and is no transfer; choose another with --out DIR")
    folder.create()
    if fresh:
        with locked(folder.root):
            _clear(folder)
    return folder


def plan(pipeline: Pipeline, config: TransferConfig) -> Trainings:
    """All trainings of a transfer, none of which is done yet by this. Raises: AmcError for what cannot work."""
    from amc_mobile.models.splits import train_and_test

    session = pipeline.session()
    check_opponents(session, config)
    return Trainings(session, config, train_and_test(config.data, config.seed))


def transfer(pipeline: Pipeline, config: TransferConfig, folder: RunFolder, *, bench: bool, force: bool) -> Path:
    """Does what is not done yet, and writes transfer.json and report.html. Answers the path of transfer.json.

    Raises: AmcError. What is finished by then is kept, accuracies also if the device fails.
    """
    from amc_mobile.cli.transfer_clock import clocked

    with locked(folder.root), working():
        folder.sweep()
        work = plan(pipeline, config)
        write_text(folder.config, configuration.dump(config))
        _warn_of_gaps(work)
        work.run()
        places: dict[str, RunFolder] = {name: work.place(name) for name in config.contenders()}
        _write(work, None)
        if bench:
            _write(work, clocked(config, places, folder.root / "timing.json", force=force))
    return folder.root / "transfer.json"


def show_transfer(path: Path, as_json: bool) -> None:
    """Prints what came of a transfer on stdout: transfer.json as it is, or a small table."""
    if as_json:
        print_json(read_json(path))
        return
    from amc_mobile.report.transfer import read_transfer, transfer_lines, transfer_table

    found = read_transfer(path)
    print_table(transfer_table(found))
    print("\n".join(transfer_lines(found, path.parent)))


def show_plan(work: Trainings, as_json: bool) -> None:
    """Prints what would be trained, and what is done already."""
    config = work.config
    rows = [{"network": job.name, "seed": job.seed, "done": work.answers(job) is not None} for job in work.jobs]
    if as_json:
        images = {"train_images": len(work.train), "test_images": len(work.test), "classes": work.entry.classes}
        print_json({"folder": str(config.out), **images, "epochs": config.finetune.epochs, "trainings": rows})
        return
    print(
        f"would train {len(rows)} times, {config.finetune.epochs} epochs of {len(work.train)} images each, for "
        f"{work.entry.classes} classes, and test on {len(work.test)}; in {config.out}, nothing is done now"
    )
    cells = [(str(row["network"]), str(row["seed"]), "done before" if row["done"] else "to do") for row in rows]
    print_table([("network", "seed", "state"), *cells])


def _write(work: Trainings, times: Times | None) -> None:
    """transfer.json and the report."""
    from amc_mobile.report.transfer import write_transfer_report

    path = work.folder.root / "transfer.json"
    write_json(path, _result(work, times))
    write_transfer_report(path)


def _result(work: Trainings, times: Times | None) -> TransferResult:
    config = work.config
    right = {name: work.right(name) for name in config.contenders()}
    contenders = tuple(_contender(work, name, rows, times) for name, rows in right.items())
    pruned = right.pop("pruned")
    gaps = tuple(
        Gap(
            against=name,
            differences=tuple((pruned.mean(axis=1) - rows.mean(axis=1)).tolist()),
            interval=difference_interval(pruned, rows),
        )
        for name, rows in right.items()
    )
    return TransferResult(
        schema=_SCHEMA,
        model=work.entry.name,
        run=str(config.run),
        data=config.data.name,
        classes=work.entry.classes,
        train_images=len(work.train),
        test_images=len(work.test),
        epochs=config.finetune.epochs,
        seeds=work.seeds,
        contenders=contenders,
        gaps=gaps,
        device=None if times is None else times[0],
    )


def _contender(work: Trainings, name: ContenderName, right: np.ndarray, times: Times | None) -> Contender:
    from amc_mobile.profile.compare import speedup_of

    answers = [found for job in work.jobs if job.name == name and (found := work.answers(job)) is not None]
    top1 = tuple(right.mean(axis=1).tolist())
    place = work.place(name)
    made = Contender(
        name=name,
        top1=top1,
        top1_ci=accuracy_interval(right),
        macs=answers[0]["cost"]["macs"],
        params=answers[0]["cost"]["params"],
        bytes=place.model_onnx.stat().st_size,
        parity=max(answer["parity"] for answer in answers),
        seconds=sum(answer["seconds"] for answer in answers),
        folder=str(place.root),
    )
    if times is None:
        return made
    device, measured = times
    made = replace(made, latency_us=measured[name].latency_us())
    if "original" not in measured or device.emulated:
        return made
    speedup, interval = speedup_of(measured["original"], measured[name], work.config.seed)
    return replace(made, speedup=speedup, speedup_ci=interval)


def _of_file(file: Path | None) -> dict[str, object]:
    """The settings of a TOML file by their paths. Raises: ConfigError."""
    tree = {} if file is None else read_toml(file)
    given: dict[str, object] = {}
    for key, value in tree.items():
        given |= {f"{key}.{name}": each for name, each in value.items()} if isinstance(value, dict) else {key: value}
    if strange := [key for key in given if key.partition(".")[0] not in TransferConfig.model_fields]:
        raise ConfigError(f"{file}: {strange[0]} is no setting of a transfer; see config.toml of a finished one")
    return given


def _warn_of_gaps(work: Trainings) -> None:
    """Says which classes are asked for but were not to be learnt."""
    absent = np.setdiff1d(work.test.labels, work.train.labels).tolist()
    if absent:
        note(
            f"  transfer  no training image of {len(absent)} classes that test images have (class {absent[0]} is one): "
            "they cannot be learnt"
        )


def _clear(folder: RunFolder) -> None:
    """Removes all that a transfer makes; other files in the folder stay."""
    places = [folder, *(RunFolder(folder.root / name) for name in ("original", "uniform", "scratch"))]
    made = [path for place in places for path in (place.policy, place.weights, place.model_onnx)]
    made += [folder.config, folder.report, folder.root / "transfer.json", folder.root / "timing.json"]
    for pattern in ("answers/*.json", "*.partial"):
        made += folder.root.glob(pattern)
    for path in made:
        path.unlink(missing_ok=True)

"""--dry-run: what a run would do, stage by stage, and about how much of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amc_mobile.cli.console import print_json, print_table
from amc_mobile.cli.pipeline import Pipeline
from amc_mobile.profile.campaign import SENTINEL, Plan
from amc_mobile.runs import RunFolder, read_trials
from amc_mobile.types import Policy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from amc_mobile.config import RunConfig
    from amc_mobile.sections.profile import ProfileConfig

_AROUND_S = 0.05  # of a turn: opening the session, warm-ups
_PROFILE_S = 0.25  # of a measurement: the profiler's runs


def show_forecast(config: RunConfig, as_json: bool, names: Sequence[str] | None = None) -> None:
    """Prints every stage (or those named) with its state and its size."""
    folder = RunFolder(config.out)
    work = Pipeline(folder, config)
    rows: list[dict[str, Any]] = [
        {"stage": stage.name, "done": work.finished(stage.name), "does": stage.does, "size": size(stage.name, config)}
        for stage in work.stages
        if names is None or stage.name in names
    ]
    if as_json:
        print_json({"folder": str(folder.root), "stages": rows, "trials_done": len(read_trials(folder.trials))})
        return
    print(f"would work in {folder.root}; nothing is done now")
    cells = [(row["stage"], "done before" if row["done"] else "to do", row["does"], row["size"]) for row in rows]
    print_table([("stage", "state", "what", "how much"), *cells])


def size(stage: str, config: RunConfig) -> str:
    """How much work a stage is, in words; seconds are for the device alone and least ones."""
    if stage == "profile":
        return profile_size(config)
    if stage == "search":
        search = config.search
        at_most = "" if search.evaluations is None else f", at most {search.evaluations} evaluations"
        return f"agent {search.agent}, {search.episodes} episodes on {config.data.search_images} images{at_most}"
    if stage == "refine":
        return f"at most {config.refinements} networks, each repaired before it is judged"
    if stage == "settle":
        return "some seconds; a repair of the table about a minute"
    if stage == "bench":
        bench = config.bench
        count = 4 if config.int8.enabled and config.device.precision == "fp32" else 2  # each in int8, too
        return f"{count} networks x {bench.rounds} rounds, at least {count * bench.rounds * bench.min_time_s:.0f} s"
    return {
        "calibrate": f"{config.data.calibration_images} images",
        "finetune": f"{config.finetune.epochs} epochs",
        "train": f"{config.training.epochs} epochs" if config.training.epochs and config.model.weights is None else "",
        "quantise": f"2 networks x {config.int8.calibration_images} images",
    }.get(stage, "")


def profile_size(config: RunConfig) -> str:
    """How many measurements a latency table needs, and at least how many seconds."""
    profile = config.profile
    if profile.table is not None:
        return f"none: {profile.table} is used"
    size = campaign_size(profile)
    text = (
        f"{size['networks']} networks x {profile.rounds} rounds, {size['measurements']} measurements of "
        f"{profile.turns} turns, about {size['minutes']:.1f} minutes"
    )
    return text + (", and every layer alone" if profile.method == "layers" else "")


def campaign_size(profile: ProfileConfig) -> dict[str, float]:
    """Networks, measurements (the full network is in every chunk) and minutes of a profile.

    Minutes are those of networks that take up to 10 ms on a steady device; slower ones take longer.
    """
    labels = [SENTINEL, "smallest", *map(str, range(profile.carriers))]
    networks, measurements = len(labels), Plan(dict.fromkeys(labels, Policy(())), profile.rounds, 0).steps()
    minutes = measurements * (profile.turns * (profile.min_time_s + _AROUND_S) + _PROFILE_S) / 60
    return {
        "networks": networks,
        "rounds": profile.rounds,
        "turns": profile.turns,
        "measurements": measurements,
        "minutes": round(minutes, 1),
    }

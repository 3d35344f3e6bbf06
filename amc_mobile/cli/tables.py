"""Latency tables on the command line: measured, shown, checked, compared."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amc_mobile.cli.console import note, print_json, print_table, progress_line, working
from amc_mobile.cli.forecast import campaign_size, profile_size
from amc_mobile.cli.many import on_all
from amc_mobile.cli.measuring import disturbed_rounds, measure_table, refused, told_rounds
from amc_mobile.cost.table import LatencyTable
from amc_mobile.errors import ConfigError, DeviceError, RunFolderError, TableError, UnstableError
from amc_mobile.measurements import DEVICE_KEY
from amc_mobile.report import wording as say
from amc_mobile.runs import file_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from amc_mobile.config import RunConfig
    from amc_mobile.cost.table import Validation
    from amc_mobile.device.protocol import Progress
    from amc_mobile.graph.traced import TracedGraph
    from amc_mobile.measurements import DeviceInfo
    from amc_mobile.sections.device import DeviceConfig

_ROOT = Path("latency_tables")


def profile_tables(configs: Sequence[RunConfig], out: Path | None) -> list[Path]:
    """Measures the network on each config's device and writes its table; answers the JSON files' paths.

    Phones are measured at the same time, each with a table of its own; devices of this machine one after the other.
    Raises: DeviceError if some failed, when the others are done.
    """
    from amc_mobile.cli.networks import trace_network

    if len(configs) == 1:
        with working(), progress_line("profile") as progress:
            return [_profile_table(configs[0], out, None, progress)]
    if out is not None and out.suffix == ".json":
        raise ConfigError(f"{out} is one file for the tables of several devices; give a folder with --out")
    traced = trace_network(configs[0].model)
    by_name = {config.device.name: config for config in configs}

    def work(name: str, progress: Progress) -> Path:
        place = None if out is None else out / file_name(name)
        return _profile_table(by_name[name], place, traced, progress)

    with working():
        return list(on_all(list(by_name), work).values())


def _profile_table(config: RunConfig, out: Path | None, traced: TracedGraph | None, progress: Progress) -> Path:
    """One table. Resumes what was interrupted."""
    from amc_mobile.cli.lock import locked
    from amc_mobile.cli.networks import trace_network
    from amc_mobile.cli.open_device import open_device

    device = open_device(config.device, force=config.profile.force)
    path = table_path(device.info(), config.model.name, out)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"cannot write {path}: {error.strerror}; choose another place with --out") from error
    _refuse_others(path, device.info())
    traced = traced or trace_network(config.model)
    partial = path.with_name(f".{path.stem}.partial")
    with locked(path.parent):
        measure_table(traced, device, config, path, partial, progress)
    for rest in (partial, refused(partial)):
        rest.unlink(missing_ok=True)
    return path


def _refuse_others(path: Path, device: DeviceInfo) -> None:
    """Raises: TableError if a table of another device, or of other cores of it, lies there: it would be lost."""
    if not path.is_file():
        return
    try:
        there = LatencyTable.load(path).device
    except TableError:
        return  # damaged, or too old to be read
    if (there.name, there.model) != (device.name, device.model) or not there.shares_cores(device):
        cores = f", cores {there.cores}" if not there.shares_cores(device) else ""
        raise TableError(
            f"{path} is the table of {there.name} ({there.model}{cores}): choose another place with --out, or move it"
        )


def table_path(device: DeviceInfo, model: str, out: Path | None) -> Path:
    """Where a table goes: FILE.json as given, or a name that says all of its key inside the folder given."""
    if out is not None and out.suffix == ".json":
        return out
    provider = device.provider.removesuffix("ExecutionProvider").lower()
    key = f"{device.runtime.split()[0]}-{provider}-{device.precision}-t{device.threads}"
    network = Path(model).stem if Path(model).suffix == ".onnx" else model
    batch = f"-b{device.batch}" if device.batch > 1 else ""
    batch += f"-{device.optimisation}" if device.optimisation in ("extended", "basic") else ""
    name = re.sub(r"[^\w.+-]+", "_", f"{network}--{key}{batch}")
    return (_ROOT / file_name(device.name) if out is None else out) / f"{name}.json"


def table_of(device: DeviceInfo, model: str, model_sha256: str, given: Path | None) -> LatencyTable | None:
    """The table given, or the one that `amc profile` wrote for this device and network; None if there is none.

    Raises: TableError if the one given is of another device or network.
    """
    if given is not None:
        table = LatencyTable.load(given)
        table.require(device, model_sha256)
        return table
    path = table_path(device, model, None)
    if not path.is_file():
        return None
    table = LatencyTable.load(path)
    try:
        table.require(device, model_sha256)
    except TableError:
        return None
    return table


def show_profile_forecasts(configs: Sequence[RunConfig], as_json: bool) -> None:
    """Prints what a measurement on each device would take, with --json as one object."""
    if as_json:
        facts = [
            {"model": config.model.name, "device": config.device.name, "size": profile_size(config)}
            | campaign_size(config.profile)
            for config in configs
        ]
        print_json(facts[0] if len(facts) == 1 else {"devices": facts})
        return
    for config in configs:
        size = profile_size(config)
        print(f"would measure {config.model.name} on {config.device.name}: {size}; nothing is done now")


def show_tables(paths: Sequence[Path], as_json: bool) -> None:
    """Prints one table, or several, with --json as one object. Raises: TableError."""
    if as_json and len(paths) > 1:
        print_json({"tables": [_facts(path, LatencyTable.load(path)) for path in paths]})
        return
    for path in paths:
        show_table(path, as_json)


def show_table(path: Path, as_json: bool) -> None:
    """Prints whose table it is and how wrong it is, beside the clock's noise and MACs alone. Raises: TableError."""
    table = LatencyTable.load(path)
    if as_json:
        print_json(_facts(path, table))
        return
    own, evidence = table.validation, table.evidence
    lines = {
        "table": str(path),
        "network": f"{table.model}, {len({row.layer for row in table.rows})} layers",
        **_device_lines(table),
        "measured": _history(evidence),
        "mean error": f"{say.percent(own.mape)} leaving one of {own.carriers} networks out, largest "
        f"{say.percent(own.max_error)}, bias {say.signed_percent(own.bias)}",
        **_common_lines(own),
        **{f"round {number + 1}": text for number, text in _round_lines(evidence)},
    }
    _print_lines(lines)


def check_file(path: Path, max_error: float, as_json: bool) -> None:
    """Raises: TableError or UnstableError if the table is damaged, or by its own word less exact than wanted."""
    table = LatencyTable.load(path)
    table.refuse(max_error)
    if falling := [row.layer for row in table.rows if not row.is_monotone()]:
        raise TableError(f"{path}: the price of layer {falling[0]} falls as it grows; measure again with `amc profile`")
    if as_json:
        print_json(_facts(path, table))
    else:
        note(f"{path} is whole; its mean error of {table.validation.mape:.1%} is within {max_error:.1%}")


def validate_table(path: Path, model: str | None, networks: int, max_error: float, seed: int, as_json: bool) -> None:
    """Measures fresh random networks on the table's device and prints how wrong it is about them.

    Raises: TableError if the file is damaged, of another device, runtime or network, or off by more than `max_error`;
    UnstableError if the clock is too noisy to tell.
    """
    from amc_mobile.cli.networks import trace_network
    from amc_mobile.cli.open_device import open_device
    from amc_mobile.profile.carriers import draw
    from amc_mobile.profile.holdout import hold_out
    from amc_mobile.profile.identity import structure_sha256
    from amc_mobile.profile.variants import Variants
    from amc_mobile.sections.model import ModelConfig
    from amc_mobile.sections.profile import ProfileConfig

    table = LatencyTable.load(path)
    try:
        device = open_device(_device_config(table.device))
        here = device.info()  # asks a phone, which may be away
    except DeviceError as error:
        whose = f"{path} is of {table.device.name} ({table.device.model}), which is not here"
        raise TableError(f"{whose}: {error}; --file-only measures nothing") from error
    table.require(here, table.model_sha256)  # before anything is exported
    try:
        traced = trace_network(ModelConfig(name=model or table.model))
    except ConfigError as error:
        raise TableError(f"{error}; say which network this table is of with --model") from error
    table.require(here, structure_sha256(traced.model))
    if {group.name for group in traced.network.prunable()} != set(table.widths):
        raise TableError(f"{path} was made with other layers pinned (--skip): its networks cannot be drawn again")
    rule = (float(table.evidence.get("min_keep_ratio", 0.2)), int(table.evidence.get("round_to", 8)))
    drawn = draw(traced.network, networks, seed, *rule)
    policies = {f"fresh {number}": policy for number, policy in enumerate(drawn)}
    with working(), progress_line("validate") as progress:
        found = hold_out(
            Variants(traced, here),
            device,
            table,
            policies,
            ProfileConfig(),
            seed=seed,
            progress=progress,
            watch=told_rounds("validate"),
        )
    own = found.validation
    if as_json:
        print_json(_facts(path, table) | {"measured": own, "price_mape": found.price_mape, "drift": found.drift})
    else:
        lines = {
            "table": str(path),
            **_device_lines(table),
            "mean error": f"{say.percent(own.mape)} on {networks} fresh networks, largest "
            f"{say.percent(own.max_error)}, bias {say.signed_percent(own.bias)}",
            **_common_lines(own),
            "as searched": f"{say.percent(found.price_mape)} mean error of the prices that a search pays",
            "clock today": f"{say.signed_percent(found.drift - 1)} beside the day of the table, taken out",
        }
        _print_lines(lines)
    _refuse_measured(own, max_error)


def _refuse_measured(own: Validation, max_error: float) -> None:
    if own.mape <= max_error:
        return
    message = f"the table is off by {own.mape:.1%} on fresh networks, allowed are {max_error:.1%}"
    if own.noise_floor > max_error / 2:
        raise UnstableError(f"{message}, and the clock itself varied by {own.noise_floor:.1%}: type `amc doctor`")
    raise TableError(f"{message}: measure it anew with `amc profile`")


def _device_config(device: DeviceInfo) -> DeviceConfig:
    """The settings under which the table's device is opened again."""
    from amc_mobile.sections.device import DeviceConfig
    from android_bench.device import PROVIDERS

    told = device.details
    values = {
        "name": device.name,
        "threads": device.threads,
        "precision": device.precision,
        "batch": device.batch,
        "cores": [int(core) for core in told["cores"].split(",")] if told.get("pinned") == "yes" else None,
        "optimisation": device.optimisation if device.optimisation in ("all", "extended", "basic") else "all",
        "provider": {full: short for short, full in PROVIDERS.items()}.get(device.provider, "cpu"),
    }
    return DeviceConfig.model_validate(values)


def _device_lines(table: LatencyTable) -> dict[str, str]:
    device = table.device
    batch = f", batch {device.batch}" if device.batch > 1 else ""
    return {
        "device": f"{device.name}: {device.model}",
        "runtime": f"{device.runtime}, {device.provider}, {device.precision}, {device.threads} thread(s){batch}",
    }


def _history(evidence: Mapping[str, Any]) -> str:
    """When and how the table was made."""
    how = {"nodes": "layers inside whole networks", "layers": "each layer alone, calibrated on whole networks"}
    parts = [str(evidence.get("date_utc", "at an unknown time")), how.get(str(evidence.get("method")), "")]
    repairs = len(evidence.get("further", ()))
    parts.append(f"repaired {repairs} time(s) after searches" if repairs else "")
    parts.append(str(evidence.get("source", "")))
    return "; ".join(part for part in parts if part)


def _common_lines(own: Validation) -> dict[str, str]:
    return {
        "within 5 %": f"{say.percent(own.within_5, 0)} of the networks, within 10 % {say.percent(own.within_10, 0)}",
        "clock's noise": say.percent(own.noise_floor),
        "MACs alone": f"{say.percent(own.macs_affine_mape)} mean error",
    }


def _round_lines(evidence: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    """How steady each round was, and what became of what was not."""
    by_round: dict[int, list[dict[str, Any]]] = {}
    for part in evidence.get("steadiness", ()):
        by_round.setdefault(part["round"], []).append(part)
    disturbed = disturbed_rounds(evidence)
    for number, parts in sorted(by_round.items()):
        used = [part for part in parts if part["used"]] or parts
        loads = [part["load"] for part in used if part["load"] is not None]
        text = f"clock within {say.percent(max(abs(part['drift']) for part in used))}"
        text += f", others' load {max(loads):.1f} cores" if loads else ""
        yield number, text + (f"; disturbed: {disturbed[number]}" if number in disturbed else "")


def _print_lines(lines: Mapping[str, str]) -> None:
    for name, text in lines.items():
        print(say.plain_ascii(f"{name:<14} {text}"))


def show_difference(first: Path, second: Path, as_json: bool) -> None:
    """Prints two tables of one network side by side: what differs in their making, then each layer at full width, µs.

    Raises: TableError if the networks differ.
    """
    one, other = LatencyTable.load(first), LatencyTable.load(second)
    if one.model_sha256 != other.model_sha256:
        raise TableError(f"{first} is of {one.model}, {second} of {other.model}: two networks; give tables of one")
    prices = [_full_prices(table) for table in (one, other)]
    total = [sum(price.values()) + table.rest_us for price, table in zip(prices, (one, other), strict=True)]
    rows = {layer: (prices[0][layer], prices[1].get(layer, 0.0)) for layer in prices[0]}
    rows |= {"rest": (one.rest_us, other.rest_us), "total": (total[0], total[1])}
    made = [_making(table) for table in (one, other)]
    differs = {name: (made[0][name], made[1][name]) for name in made[0] if made[0][name] != made[1][name]}
    if as_json:
        facts = {"first": _facts(first, one), "second": _facts(second, other)}
        print_json({**facts, "made_differently": differs, "latency_us": rows})
        return
    if differs:
        print_table([("what differs", first.stem, second.stem), *((name, *pair) for name, pair in differs.items())])
        print()
    cells = [(name, f"{a:.1f}", f"{b:.1f}", f"{b - a:+.1f}", _change(a, b)) for name, (a, b) in rows.items()]
    print_table([("layer, µs", first.stem, second.stem, "difference", ""), *cells])


def _making(table: LatencyTable) -> dict[str, str]:
    """What a table was made with and how wrong it is, in words."""
    device, own = table.device, table.validation
    return {
        **{name: str(getattr(device, name)) for name in DEVICE_KEY},
        "date": str(table.evidence.get("date_utc", "")),
        "tool": str(table.evidence.get("tool", "")),
        "mean error": say.percent(own.mape),
        "clock's noise": say.percent(own.noise_floor),
    }


def _change(before: float, after: float) -> str:
    return say.signed_percent(after / before - 1) if before > 0 else ""


def _full_prices(table: LatencyTable) -> dict[str, float]:
    prices: dict[str, float] = {}
    for row in table.rows:
        prices[row.layer] = prices.get(row.layer, 0.0) + row.latency_us[-1][-1]
    return prices


def _facts(path: Path, table: LatencyTable) -> dict[str, Any]:
    return {
        "table": str(path),
        "model": table.model,
        "model_sha256": table.model_sha256,
        "device": table.device,
        "layers": len({row.layer for row in table.rows}),
        "rest_us": table.rest_us,
        "validation": table.validation,
        "environment": _environment(table),
    }


def _environment(table: LatencyTable) -> dict[str, Any]:
    """All that one must know to measure the same again, as MLPerf's environment_info has it."""
    evidence = table.evidence
    states = [chunk["conditions"] for chunk in evidence.get("chunks", ())]
    clocks = sorted({khz for state in states for khz in state["clock_khz"]})
    known = ("tool", "date_utc", "seed", "protocol", "method", "source", "conditions", "steadiness")
    return {
        **{name: evidence[name] for name in known if name in evidence},
        "governor": next((state["governor"] for state in states if state["governor"]), None),
        "clocks_seen_khz": [clocks[0], clocks[-1]] if clocks else [],
        "noise_floor": table.validation.noise_floor,
        "repairs": len(evidence.get("further", ())),
    }

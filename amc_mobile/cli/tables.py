"""Latency tables on the command line: measured, shown, checked, compared."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amc_mobile.cli.console import note, print_json, print_table, progress_line, working
from amc_mobile.cli.forecast import profile_size
from amc_mobile.cli.measuring import measure_table, refused
from amc_mobile.cost.table import LatencyTable
from amc_mobile.errors import RunFolderError, TableError
from amc_mobile.report import wording as say

if TYPE_CHECKING:
    from amc_mobile.config import RunConfig
    from amc_mobile.types import DeviceInfo

_ROOT = Path("latency_tables")


def profile_table(config: RunConfig, out: Path | None) -> Path:
    """Measures the network and writes its table; answers the JSON file's path. Resumes what was interrupted."""
    from amc_mobile.cli.lock import locked
    from amc_mobile.cli.networks import trace_network
    from amc_mobile.cli.open_device import open_device

    device = open_device(config.device)
    path = table_path(device.info(), config.model.name, out)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"cannot write {path}: {error.strerror}; choose another place with --out") from error
    traced = trace_network(config.model)
    partial = path.with_name(f".{path.stem}.partial")
    with locked(path.parent), working(), progress_line("profile") as progress:
        measure_table(traced, device, config, path, partial, progress)
    for rest in (partial, refused(partial)):
        rest.unlink(missing_ok=True)
    return path


def table_path(device: DeviceInfo, model: str, out: Path | None) -> Path:
    """Where a table goes: FILE.json as given, or a name that says all of its key inside the folder given."""
    if out is not None and out.suffix == ".json":
        return out
    provider = device.provider.removesuffix("ExecutionProvider").lower()
    key = f"{device.runtime.split()[0]}-{provider}-{device.precision}-t{device.threads}"
    network = Path(model).stem if Path(model).suffix == ".onnx" else model
    name = re.sub(r"[^\w.+-]+", "_", f"{network}--{key}")
    return (_ROOT / device.name if out is None else out) / f"{name}.json"


def show_profile_forecast(config: RunConfig, as_json: bool) -> None:
    """Prints what a measurement would take."""
    size = profile_size(config)
    if as_json:
        print_json({"model": config.model.name, "device": config.device.name, "size": size})
    else:
        print(f"would measure {config.model.name} on {config.device.name}: {size}; nothing is done now")


def show_table(path: Path, as_json: bool) -> None:
    """Prints whose table it is and how wrong it is, beside the clock's noise and MACs alone. Raises: TableError."""
    table = LatencyTable.load(path)
    if as_json:
        print_json(_facts(path, table))
        return
    own = table.validation
    lines = {
        "table": str(path),
        "network": f"{table.model}, {len({row.layer for row in table.rows})} layers",
        "device": f"{table.device.name}: {table.device.model}",
        "runtime": f"{table.device.runtime}, {table.device.provider}, {table.device.precision}, "
        f"{table.device.threads} thread(s)",
        "mean error": f"{say.percent(own.mape)} leaving one of {own.carriers} networks out, largest "
        f"{say.percent(own.max_error)}, bias {say.signed_percent(own.bias)}",
        "within 5 %": f"{say.percent(own.within_5, 0)} of the networks, within 10 % {say.percent(own.within_10, 0)}",
        "clock's noise": say.percent(own.noise_floor),
        "MACs alone": f"{say.percent(own.macs_affine_mape)} mean error",
    }
    for name, text in lines.items():
        print(say.plain_ascii(f"{name:<14} {text}"))


def validate_table(path: Path, max_error: float, as_json: bool) -> None:
    """Raises: TableError or UnstableError if the table is damaged, or less exact than wanted."""
    table = LatencyTable.load(path)
    table.refuse(max_error)
    if falling := [row.layer for row in table.rows if not row.is_monotone()]:
        raise TableError(f"{path}: the price of layer {falling[0]} falls as it grows; measure again with `amc profile`")
    if as_json:
        print_json(_facts(path, table))
    else:
        note(f"{path} is whole; its mean error of {table.validation.mape:.1%} is within {max_error:.1%}")


def show_difference(first: Path, second: Path, as_json: bool) -> None:
    """Prints two tables of one network side by side at full width, µs. Raises: TableError if the networks differ."""
    one, other = LatencyTable.load(first), LatencyTable.load(second)
    if one.model_sha256 != other.model_sha256:
        raise TableError(f"{first} is of {one.model}, {second} of {other.model}: two networks; give tables of one")
    prices = [_full_prices(table) for table in (one, other)]
    total = [sum(price.values()) + table.rest_us for price, table in zip(prices, (one, other), strict=True)]
    rows = {layer: (prices[0][layer], prices[1].get(layer, 0.0)) for layer in prices[0]}
    rows |= {"rest": (one.rest_us, other.rest_us), "total": (total[0], total[1])}
    if as_json:
        print_json({"first": _facts(first, one), "second": _facts(second, other), "latency_us": rows})
        return
    cells = [(name, f"{a:.1f}", f"{b:.1f}", f"{b - a:+.1f}") for name, (a, b) in rows.items()]
    print_table([("layer, µs", first.stem, second.stem, "difference"), *cells])


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
    }

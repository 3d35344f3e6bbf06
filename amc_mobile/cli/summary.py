"""What came of a run, from its files: summary.json, and a few lines for the terminal."""

from __future__ import annotations

import platform
from importlib import metadata
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from amc_mobile import config as configuration
from amc_mobile.cli.console import print_json, print_table
from amc_mobile.cli.ledger import Ledger
from amc_mobile.cli.refining import is_refined
from amc_mobile.errors import RunFolderError
from amc_mobile.report import wording as say
from amc_mobile.runs import RunFolder, plain, read_json, read_trials
from amc_mobile.types import ACCURACIES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from amc_mobile.config import RunConfig

_PACKAGES = ("amc-mobile", "torch", "torchvision", "onnx", "onnxruntime", "numpy")


def summarise(folder: RunFolder, config: RunConfig) -> dict[str, Any]:
    """summary.json: before and after in every currency. Times in µs, accuracies as fractions.

    `predicted_us` and `budget_us` are on the clock of the comparison: `clock_drift` times what they were when the table
    was measured (the searched `limit`). An emulated device earns no speed-up.
    """
    accuracy, comparison, search = (read_json(path) for path in (folder.accuracy, folder.comparison, folder.search))
    metric = search["budget"]["metric"]
    limits, emulated = limit_facts(folder, config), comparison["device"]["emulated"]
    timed_here = metric == "latency_us" and not search["budget"]["device"]
    in_int8 = accuracy["precision"] == "int8"
    before, after = accuracy["original"], accuracy["finetuned"] or accuracy["pruned"]
    name = accuracy["metric"]
    before_int8, after_int8 = accuracy["original_int8"], accuracy["int8"]
    judged = (before_int8, after_int8) if in_int8 else (before, after)
    uniform = accuracy["uniform_int8" if in_int8 else "uniform"]
    return {
        "model": config.model.name,
        "device": comparison["device"]["model"],
        "metric": metric,
        "limit": search["budget"]["limit"],
        "fraction": limits[0]["fraction"],
        "limits": limits,
        "accuracy_metric": name,
        "precision": comparison["device"]["precision"],
        "accuracy_before": judged[0][name],
        "accuracy_after": judged[1][name],
        "accuracy_before_finetuning": accuracy["pruned"][name],
        "accuracy_uniform": uniform[name] if uniform else None,
        "accuracy_before_int8": before_int8[name] if before_int8 else None,
        "accuracy_after_int8": after_int8[name] if after_int8 else None,
        "test_images": accuracy["test_images"],
        "latency_before_us": comparison["latency_before_us"],
        "latency_after_us": comparison["latency_after_us"],
        "emulated": emulated,
        "speedup": None if emulated else comparison["speedup"],
        "speedup_ci": None if emulated else comparison["speedup_ci"],
        "latency_before_int8_us": comparison["latency_before_us" if in_int8 else "latency_original_int8_us"],
        "latency_after_int8_us": comparison["latency_after_us" if in_int8 else "latency_int8_us"],
        "predicted_us": comparison["predicted_us"],
        "prediction_error": comparison["prediction_error"],
        "clock_drift": comparison["drift"],
        "budget_us": search["budget"]["limit"] * (comparison["drift"] or 1.0) if timed_here else None,
        **network_facts(folder),
        **(_int8_sizes(folder) if in_int8 else {}),
        "agent": shipped(folder)["agent"],
        "point": config.prune.point,
        "episodes": search["episodes"],
        "trials": len(read_trials(folder.trials)),
        "seconds": Ledger(folder.stages).seconds(),
        "commands": [f"amc run {folder.config}"],
        "versions": {"python": platform.python_version()} | {name: metadata.version(name) for name in _PACKAGES},
        "report": str(folder.report),
    }


def _int8_sizes(folder: RunFolder) -> dict[str, Any]:
    """Files before and after, where those in int8 are what the run is about."""
    return {
        "bytes_before": folder.original_int8.stat().st_size,
        "bytes_after": folder.model_int8.stat().st_size,
        "onnx": str(folder.model_int8),
    }


def shipped(folder: RunFolder) -> dict[str, Any]:
    """The trial whose widths ship: the winner of the search or of its refinement, or one chosen by hand."""
    kept, search = read_json(folder.policy)["kept"], read_json(folder.search)
    better = (_refined(folder) or {}).get("best")
    for trial in filter(None, (better, search["best"], *map(plain, read_trials(folder.trials)))):
        if list(trial["kept"]) == kept:
            found: dict[str, Any] = trial
            return found
    raise RunFolderError(f"{folder.policy} is of no trial of {folder.trials}; type `amc prune {folder.root}` again")


def limit_facts(folder: RunFolder, config: RunConfig) -> list[dict[str, Any]]:
    """Every limit of a search with what the network that ships reached: latencies as the tables predict them.

    `fraction` is the share of the original's cost that the settings asked for, None for an absolute amount.
    """
    asked = [*config.budget.limits().values(), *(each.limit() for each in config.budget.also)]
    fractions = [amount.value if amount.relative else None for amount in asked]
    search, cost = read_json(folder.search), shipped(folder)["cost"]
    return [
        {
            **budget,
            "reached": cost["elsewhere_us"][budget["device"]] if budget["device"] else cost[budget["metric"]],
            "fraction": fraction,
        }
        for budget, fraction in zip_longest([search["budget"], *search["further"]], fractions)
    ]


def network_facts(folder: RunFolder) -> dict[str, Any]:
    """MACs, parameters, bytes of file and activations before and after, and how exactly the exported file answers."""
    from pydantic import TypeAdapter

    from amc_mobile.cost.price import price
    from amc_mobile.types import NetworkGraph, Policy

    network = TypeAdapter(NetworkGraph).validate_python(read_json(folder.graph)["network"])
    policy = Policy(tuple(read_json(folder.policy)["kept"]))
    before, after = price(network, network.full()), price(network, policy)
    return {
        "macs_before": before.macs,
        "macs_after": after.macs,
        "params_before": before.params,
        "params_after": after.params,
        "bytes_before": folder.original_onnx.stat().st_size,
        "bytes_after": folder.model_onnx.stat().st_size,
        "memory_bytes_before": before.memory_bytes,
        "memory_bytes_after": after.memory_bytes,
        "parity": read_json(folder.parity).get("pruned"),
        "onnx": str(folder.model_onnx),
        "onnx_int8": str(folder.model_int8) if folder.model_int8.is_file() else None,
        "bytes_after_int8": folder.model_int8.stat().st_size if folder.model_int8.is_file() else None,
        "weights": str(folder.weights) if folder.weights.is_file() else None,
    }


def show_summary(folder: RunFolder, as_json: bool) -> None:
    """Prints summary.json on stdout, as it is or in a few lines."""
    if as_json:
        print_json(read_json(folder.summary))
        return
    from amc_mobile.report.write import summary_lines

    print("\n".join(summary_lines(folder)))


def show_network(folder: RunFolder, as_json: bool) -> None:
    """Prints what is known of the pruned network on stdout."""
    facts = network_facts(folder)
    if as_json:
        print_json(facts)
        return
    print_table([tuple(map(say.plain_ascii, row)) for row in [("", "before", "after", ""), *_size_rows(facts)]])
    _print(f"network  {facts['onnx']}")
    if facts["onnx_int8"] is not None:
        _print(f"in int8  {facts['onnx_int8']}, {say.size(facts['bytes_after_int8'])}")
    if facts["weights"] is not None:
        _print(f"weights  {facts['weights']}")


def show_search(folder: RunFolder, as_json: bool) -> None:
    """Prints the result of a search on stdout: the winner, and the best of every opponent."""
    result = read_json(folder.search)
    if as_json:
        better = _refined(folder)
        print_json({**result, "refined": better, "trials": len(read_trials(folder.trials)), "folder": str(folder.root)})
        return
    limits = [result["budget"], *result["further"]]
    strict = ACCURACIES["classification" if result["best"]["score"].get("map") is None else "detection"][0]
    rows = [("agent", "reward", say.ACCURACY_NAMES[strict], *map(_heading, limits))]
    beaten = [trial for trial in result["opponents"] if trial["agent"] != result["best"]["agent"]]
    for trial in [result["best"], *beaten]:
        costs = [trial["cost"]["elsewhere_us"].get(each["device"], trial["cost"][each["metric"]]) for each in limits]
        spent = [say.in_metric(cost, each["metric"]) for cost, each in zip(costs, limits, strict=True)]
        mark = "" if trial["score"]["images"] == result["best"]["score"]["images"] else " *"
        rows.append((trial["agent"], f"{trial['reward']:.4f}", say.percent(trial["score"][strict]) + mark, *spent))
    print_table([tuple(map(say.plain_ascii, row)) for row in rows])
    _print_limits(result, limits)
    _print_refined(folder)
    if any(row[2].endswith("*") for row in rows):
        print("*       given up when it could not win any more: an estimate on fewer images")
    _print(f"next    amc prune {folder.root}; amc search ... --pareto and amc why {folder.root} tell more")


def _refined(folder: RunFolder) -> dict[str, Any] | None:
    """What refined.json says of the folder's present search, if its settings want that."""
    wanted = configuration.load(folder.config).refines and is_refined(folder)
    return read_json(folder.refined) if wanted else None


def _print_refined(folder: RunFolder) -> None:
    """What became of the winner when the best policies were judged as they will be repaired."""
    better = _refined(folder) or {}
    if better.get("first") and better.get("best"):
        first, best = (better[name]["reward"] for name in ("first", "best"))
        _print(f"refined  reward, repaired as it ships: winner {first:.4f}, refined {best:.4f}")


def _print_limits(result: dict[str, Any], limits: Sequence[dict[str, Any]]) -> None:
    """What the winner had to keep."""
    if result["least_accuracy"] is not None:
        first = _heading(limits[0])
        _print(f"asked   least {first} with at least {say.percent(result['least_accuracy'])} on the search images")
        return
    for each in limits:
        _print(f"budget  {_heading(each)} at most {say.in_metric(each['limit'], each['metric'])}, kept by all of them")


def show_comparisons(paths: Sequence[Path], as_json: bool) -> None:
    """Prints original against pruned on stdout, from the files of the comparisons; with --json as one object."""
    if as_json:
        facts = [{"file": str(path), **_without_values(read_json(path))} for path in paths]
        print_json(facts[0] if len(facts) == 1 else {"comparisons": facts})
        return
    for path in paths:
        _show_comparison(path)


def _without_values(comparison: dict[str, Any]) -> dict[str, Any]:
    """A comparison without its raw times, which stay in its file."""
    return {
        key: value for key, value in comparison.items() if key not in ("original", "pruned", "original_int8", "int8")
    }


def _show_comparison(path: Path) -> None:
    found = read_json(path)
    before, after = say.ms(found["latency_before_us"]), say.ms(found["latency_after_us"])
    if found["device"]["emulated"]:
        _print(f"EMULATED: function only, no speed claim ({before} -> {after} by the emulator's clock)")
    else:
        _print(f"{before} -> {after}: {_as_fast(found['speedup'], found['speedup_ci'])}")
    _print_int8(found)
    if found["predicted_us"] is not None:
        error = say.signed_percent(found["prediction_error"])
        _print(f"predicted {say.ms(found['predicted_us'])}, {error} against measured")
    _print(f"{found['device']['model']}, {found['device']['runtime']}, raw values in {path}")


def _print_int8(found: dict[str, Any]) -> None:
    """The pruned network in int8, or why it was not timed; nothing where nobody asked."""
    if "int8" in found.get("failed", {}):
        _print(f"in int8 not timed: {found['failed']['int8']}")
    elif found.get("latency_int8_us") is not None:
        fast = "" if found["device"]["emulated"] else f": {_as_fast(found['speedup_int8'], found['speedup_int8_ci'])}"
        alone = found.get("latency_original_int8_us")
        before = "" if alone is None else f"{say.ms(alone)} -> "
        _print(f"in int8 {before}{say.ms(found['latency_int8_us'])}{fast}{' as the float original' if fast else ''}")


def _as_fast(speedup: float, ends: tuple[float, float]) -> str:
    return f"{say.times(speedup)} as fast (95 %: {say.interval(ends)})"


def _size_rows(facts: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    return [
        ("MACs", say.count(facts["macs_before"]), say.count(facts["macs_after"]), ""),
        ("parameters", say.count(facts["params_before"]), say.count(facts["params_after"]), ""),
        ("file size", say.size(facts["bytes_before"]), say.size(facts["bytes_after"]), ""),
        ("activations", say.size(facts["memory_bytes_before"]), say.size(facts["memory_bytes_after"]), ""),
    ]


def _heading(budget: dict[str, Any]) -> str:
    """What a limit is on: "latency", "latency on pixel"."""
    return say.cost_name(budget["metric"], budget["device"])


def _print(text: str) -> None:
    print(say.plain_ascii(text))

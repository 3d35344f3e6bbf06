"""What a run folder says, as typed data: every file is optional but graph.json, and a damaged one is named."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from amc_mobile import config as settings
from amc_mobile.config import RunConfig
from amc_mobile.cost.table import LatencyTable
from amc_mobile.errors import ConfigError, RunFolderError
from amc_mobile.measurements import Comparison
from amc_mobile.report.examples import Examples
from amc_mobile.report.settled import Settled
from amc_mobile.runs import RunFolder, read_json, read_trials
from amc_mobile.search.why import Reasons
from amc_mobile.train.history import History
from amc_mobile.trials import Refinement, SearchResult, Trial
from amc_mobile.types import AccuracyName, NetworkGraph, Precision, RangeChoice

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Tested:
    """What one network scored on the test images. Fractions in [0, 1]; a detector has the last two only."""

    top1: float | None = None
    top5: float | None = None
    map: float | None = None
    map50: float | None = None

    def share(self, metric: AccuracyName) -> float | None:
        """In that metric; a file of before top-5 was kept has top-1 only."""
        found: float | None = getattr(self, metric)
        return self.top1 if found is None else found


@dataclass(frozen=True, slots=True)
class Accuracy:
    """accuracy.json: the networks that were tested on images the search never saw."""

    original: Tested
    pruned: Tested | None = None
    finetuned: Tested | None = None
    uniform: Tested | None = None
    original_int8: Tested | None = None
    int8: Tested | None = None  # of the last of these
    uniform_int8: Tested | None = None
    test_images: int = 0
    search_images: int | None = None
    metric: AccuracyName = "top1"
    precision: Precision = "fp32"  # of the networks that the run is about
    lead_ci: tuple[float, float] | None = None  # pruned - uniform
    change_ci: Mapping[str, tuple[float, float] | None] = field(
        default_factory=dict
    )  # shipped - original, by precision


@dataclass(frozen=True, slots=True)
class Quantised:
    """int8.json: how the networks were quantised, or why they could not be."""

    method: RangeChoice
    images: int
    weight_bits: int
    made: bool = True
    failed: str = ""


@dataclass(frozen=True, slots=True)
class Summary:
    """summary.json, of which the report takes only what no other file says."""

    bytes_before: int | None = None
    bytes_after: int | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)  # by stage
    commands: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    parity: float | None = None  # largest difference of PyTorch's and ONNX Runtime's outputs, relative


@dataclass(frozen=True, slots=True)
class Sources:
    """Everything the run folder holds that the report tells. What has not been made yet is None or empty."""

    folder: RunFolder
    network: NetworkGraph
    model_sha256: str
    config: RunConfig | None
    config_text: str
    table: LatencyTable | None
    trials: tuple[Trial, ...]
    search: SearchResult | None
    kept: tuple[int, ...] | None  # widths of the network that ships: policy.json, else the winner of the search
    accuracy: Accuracy | None
    comparison: Comparison | None
    reasons: Reasons | None
    refined: Refinement | None
    settled: Settled | None
    training: History | None  # of the original, where it was trained here
    finetuning: History | None
    summary: Summary
    examples: Examples | None = None
    elsewhere: tuple[Comparison, ...] = ()  # on further devices, by their names
    damaged: tuple[str, ...] = ()  # why some of these are not there
    shipped_sha256: str = ""  # of model.onnx
    int8_sha256: str = ""  # of model.int8.onnx
    int8: Quantised | None = None

    @property
    def fine_grained(self) -> bool:
        """Whether single weights are zero, instead of channels gone."""
        return self.config is not None and self.config.search.granularity == "weight"


def read_sources(folder: RunFolder, without: Collection[str] = ()) -> Sources:
    """Reads a run folder, but not what the stages `without` ("evaluate", "bench", "report") wrote.

    Raises: RunFolderError if graph.json is missing or any file is damaged.
    """
    graph = read_json(folder.require(folder.graph, "search"))
    network = _typed(folder.graph, graph, "network", NetworkGraph)
    search = _optional(folder.search, SearchResult)
    config_text = folder.config.read_text(encoding="utf-8") if folder.config.is_file() else ""
    config = _config(folder.config) if config_text else None
    elsewhere, damaged = _elsewhere(folder)
    return Sources(
        folder=folder,
        network=network,
        model_sha256=str(graph.get("model_sha256", "")),
        config=config,
        config_text=config_text,
        table=LatencyTable.load(folder.table) if folder.table.is_file() else None,
        trials=tuple(read_trials(folder.trials)),
        search=search,
        kept=_kept(folder, network, search),
        accuracy=None if "evaluate" in without else _optional(folder.accuracy, Accuracy),
        comparison=None if "bench" in without else _optional(folder.comparison, Comparison),
        reasons=_optional(folder.why, Reasons),
        refined=_refined(folder, config),
        settled=_optional(folder.settled, Settled),
        training=_optional(folder.training, History),
        finetuning=_optional(folder.finetuning, History),
        summary=Summary() if "report" in without else _summary(folder.summary),
        examples=None if "evaluate" in without else _optional(folder.detections, Examples),
        elsewhere=elsewhere,
        damaged=damaged,
        shipped_sha256=folder.model_sha256() if elsewhere else "",
        int8_sha256=folder.int8_sha256() if elsewhere else "",
        int8=_optional(folder.int8, Quantised),
    )


def _refined(folder: RunFolder, config: RunConfig | None) -> Refinement | None:
    """The refinement of the folder's present search; one of former settings, or of another search, is none."""
    found = _optional(folder.refined, Refinement)
    if found is None or (config is not None and not config.refines):
        return None
    return found if found.searched == folder.search_identity() else None


def _elsewhere(folder: RunFolder) -> tuple[tuple[Comparison, ...], tuple[str, ...]]:
    """The comparisons on further devices, sorted by name, and what is wrong with those that cannot be read.

    One device's damaged file does not cost the others their report.
    """
    found, damaged = [], []
    for path in sorted(folder.devices.glob("*.json")):
        try:
            found.append(_typed(path, {"file": read_json(path)}, "file", Comparison))
        except RunFolderError as error:
            damaged.append(str(error))
    return tuple(sorted(found, key=lambda one: one.device.name)), tuple(damaged)


def _config(path: Path) -> RunConfig | None:
    """The run's settings; None where they are another version's (the report then shows their text only)."""
    try:
        return settings.load(path)
    except ConfigError:
        return None


def _kept(folder: RunFolder, network: NetworkGraph, search: SearchResult | None) -> tuple[int, ...] | None:
    if folder.policy.is_file():
        kept = _typed(folder.policy, read_json(folder.policy), "kept", tuple[int, ...])
    elif search is not None:
        kept = search.best.kept
    else:
        return None
    if len(kept) != len(network.groups):
        raise RunFolderError(
            f"{folder.root}: the policy has {len(kept)} widths for {len(network.groups)} channel groups; "
            "graph.json belongs to another network: run the search again"
        )
    return kept


def _optional(path: Path, kind: type[T]) -> T | None:
    return _typed(path, {"file": read_json(path)}, "file", kind) if path.is_file() else None


def _typed(path: Path, values: Any, key: str, kind: type[T]) -> T:
    """`values[key]` as the given type. Raises: RunFolderError naming the file and its first fault."""
    try:
        found: T = TypeAdapter(kind).validate_python(values[key])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or key
        raise RunFolderError(
            f"{path} is damaged ({where}: {first['msg']}); delete it and run the stage again"
        ) from error
    except (KeyError, TypeError) as error:
        raise RunFolderError(f"{path} has no {key}; delete it and run the stage again") from error
    return found


def _summary(path: Path) -> Summary:
    """summary.json as far as it is understood: it only repeats or decorates what other files prove."""
    values = read_json(path) if path.is_file() else {}
    if not isinstance(values, dict):
        return Summary()
    commands = values.get("commands") or ()
    return Summary(
        bytes_before=_whole(values.get("bytes_before")),
        bytes_after=_whole(values.get("bytes_after")),
        seconds=_numbers(values.get("seconds")),
        commands=(commands,) if isinstance(commands, str) else tuple(str(command) for command in commands),
        versions={str(name): str(text) for name, text in (values.get("versions") or {}).items()},
        parity=_numbers(values.get("parity")).get("total"),
    )


def _whole(value: Any) -> int | None:
    return int(value) if isinstance(value, (int, float)) else None


def _numbers(values: Any) -> dict[str, float]:
    if isinstance(values, (int, float)):
        return {"total": float(values)}
    if not isinstance(values, dict):
        return {}
    return {str(name): float(value) for name, value in values.items() if isinstance(value, (int, float))}

"""A run folder as the report's view data: every derived number and sentence, computed once, frozen."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from amc_mobile.cost.table import Validation
from amc_mobile.measurements import DeviceInfo
from amc_mobile.report import verdict
from amc_mobile.report import wording as say
from amc_mobile.report.conditions import Rows, conditions
from amc_mobile.report.contest import contest, guarantee
from amc_mobile.report.devices import DeviceFacts, device_facts
from amc_mobile.report.examples import Examples
from amc_mobile.report.limits import BudgetFacts, budget_facts
from amc_mobile.report.outcome import AccuracyFacts, SizeFacts, SpeedFacts, accuracy_facts, size_facts, speed_facts
from amc_mobile.report.reasons import ReasonRow, reason_rows
from amc_mobile.report.searching import SearchFacts, search_facts
from amc_mobile.report.settled import Settled, sentences
from amc_mobile.report.sources import Sources, read_sources
from amc_mobile.report.structure import StructureFacts, structure_facts
from amc_mobile.runs import RunFolder
from amc_mobile.sections.profile import ProfileConfig
from amc_mobile.train.history import History
from amc_mobile.types import ACCURACIES


@dataclass(frozen=True, slots=True)
class Missing:
    """A part of the report that cannot be told yet, and the command that makes its file."""

    file: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything the report says. Sections whose file is missing are None and listed in `missing`."""

    schema: int
    model: str
    verdict: str
    device: DeviceInfo | None
    speed: SpeedFacts | None
    devices: tuple[DeviceFacts, ...]  # that timed the networks, the run's own first
    accuracy: AccuracyFacts | None
    sizes: SizeFacts
    budget: BudgetFacts | None
    further: tuple[BudgetFacts, ...]  # limits that hold at the same time
    budget_sentence: str
    structure: StructureFacts
    search: SearchFacts | None
    contest: str
    reasons: tuple[ReasonRow, ...]
    table: Validation | None
    training: History | None  # of the original, where it was trained here
    finetuning: History | None
    settled: tuple[str, ...]  # what the clock said of the chosen network, and what was done about it
    conditions: Rows
    seconds: Rows
    notes: tuple[str, ...]
    missing: tuple[Missing, ...]
    commands: tuple[str, ...]
    config_text: str
    examples: Examples | None = None


def gather(folder: RunFolder, without: Collection[str] = ()) -> Facts:
    """Reads a run folder into the report's data, but not what the stages `without` wrote.

    Raises: RunFolderError, TableError (damaged files).
    """
    sources = read_sources(folder, without)
    device = _device(sources)
    speed, accuracy = speed_facts(sources.comparison), accuracy_facts(sources.accuracy)
    budgets, search = budget_facts(sources), search_facts(sources)
    budget, devices = budgets[0] if budgets else None, device_facts(sources)
    return Facts(
        schema=1,
        model=sources.config.model.name if sources.config else sources.network.name,
        verdict=verdict.verdict(device, speed, accuracy, budget),
        device=device,
        speed=speed,
        devices=devices,
        accuracy=accuracy,
        sizes=size_facts(sources),
        budget=budget,
        further=budgets[1:],
        budget_sentence=" ".join(
            [*guarantee(search), *(verdict.budget_sentence(each, speed) for each in _limits(budgets, sources))]
        ),
        structure=structure_facts(sources),
        search=search,
        contest="" if search is None else contest(search, sources.config, sources.refined),
        reasons=reason_rows(sources.reasons),
        table=None if sources.table is None else sources.table.validation,
        training=sources.training,
        finetuning=sources.finetuning,
        settled=tuple(sentences(_settled(sources), _tolerance(sources))),
        conditions=tuple(conditions(sources, device)),
        seconds=tuple((name, say.duration(value)) for name, value in sources.summary.seconds.items()),
        notes=(
            *_fine_grained_notes(sources),
            *_precision_notes(device),
            *_detection_notes(accuracy),
            *_int8_notes(sources),
            *verdict.honesty_notes(accuracy, search, speed, budget, devices),
        ),
        missing=tuple(_missing(sources)),
        commands=sources.summary.commands,
        config_text=sources.config_text,
        examples=sources.examples,
    )


def _limits(budgets: tuple[BudgetFacts, ...], sources: Sources) -> tuple[BudgetFacts, ...]:
    """The budgets that limit something: in an accuracy-guaranteed search the first may only name what is minimised."""
    config = sources.config
    if config is None or config.search.protocol != "accuracy" or config.budget.also:
        return budgets
    unlimited = not config.budget.limits() or budgets[0].share == 1.0
    return budgets[1:] if budgets and unlimited else budgets


def _settled(sources: Sources) -> Settled | None:
    """The checks, if they are of the network that the search in the folder chose."""
    settled, search, refined = sources.settled, sources.search, sources.refined
    if settled is None or search is None or not settled.checks:
        return settled
    chosen = search.best if refined is None or refined.best is None else refined.best
    return settled if settled.checks[-1].kept == chosen.kept else None


def _tolerance(sources: Sources) -> float:
    return ProfileConfig().tolerance if sources.config is None else sources.config.profile.tolerance


def _fine_grained_notes(sources: Sources) -> Iterator[str]:
    if sources.fine_grained:
        yield (
            "Fine-grained pruning: MACs and parameters count the weights that are not zero. The network keeps its "
            "shape and its file its size, and ONNX Runtime computes with the zeros all the same: it is not faster. "
            "What profits are hardware and formats made for sparse weights."
        )


def _precision_notes(device: DeviceInfo | None) -> Iterator[str]:
    if device is None or device.precision == "fp32":
        return
    if device.precision == "int8":
        yield (
            "Times, budget and accuracies are those of int8 networks, and model.int8.onnx is the file that ships; the "
            "table of accuracies also has the float networks. The search scored float networks: quantising each "
            "candidate costs more than running it, and hardly changes which of two is better."
        )
    else:
        yield (
            f"Times are those of {device.precision} networks; accuracies are those of the float networks, and so is "
            "the ONNX file that ships."
        )


def _detection_notes(accuracy: AccuracyFacts | None) -> Iterator[str]:
    if accuracy is not None and accuracy.metric in ACCURACIES["detection"]:
        yield (
            "Times, MACs and sizes are of the network up to what its heads say. What follows outside of it (decoding "
            "boxes, suppressing overlapping ones, and in a Faster R-CNN the heads of the second pass) was not pruned "
            "and takes the same time before and after."
        )


def _int8_notes(sources: Sources) -> Iterator[str]:
    """How the networks were quantised, or why they were not."""
    how = sources.int8
    if how is None:
        return
    if how.failed:
        yield f"There is nothing in int8: {how.failed}."
    if not how.made:
        return
    chosen = {
        "auto": "whichever kind answers most like the float network",
        "minmax": "all that occurred",
        "percentile": "all but the outermost values",
        "mse": "least squared error",
    }
    yield (
        f"int8 is static quantisation: each network’s own ranges on {how.images:,} calibration "
        f"images ({chosen[how.method]}), weights of {how.weight_bits} bits per channel with corrected biases. One "
        "file answers alike on x86 and Arm processors. Its accuracy was measured on this machine."
    )


def _device(sources: Sources) -> DeviceInfo | None:
    """The device that was measured, else the one the table was made on."""
    if sources.comparison is not None:
        return sources.comparison.device
    return sources.table.device if sources.table is not None else None


def _missing(sources: Sources) -> Iterator[Missing]:
    """One plain sentence for every file that is not there yet."""
    if sources.table is None:
        yield Missing(
            "table.json",
            "No latency table: layer times and the table's own error are not shown. `amc profile` makes one.",
        )
    if not sources.trials:
        yield Missing("trials.jsonl", "No trials: the search is not shown. `amc search` makes them.")
    elif sources.search is None:
        yield Missing("search.json", "The search has not ended yet; `amc search` goes on with it.")
    if sources.kept is None:
        yield Missing("policy.json", "No policy yet: widths after pruning are not shown. `amc search` finds it.")
    if sources.reasons is None:
        yield Missing("why.json", "What each width costs and saves is not known yet: `amc prune` writes it.")
    if sources.accuracy is None:
        yield Missing("accuracy.json", "No test accuracy yet: `amc report` measures it.")
    if sources.comparison is None:
        yield Missing(
            "comparison.json", "Original and pruned were not timed against each other yet. `amc bench` does it."
        )
    yield from (Missing("devices", f"A further device is not shown: {reason}.") for reason in sources.damaged)

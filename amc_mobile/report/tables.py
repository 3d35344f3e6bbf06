"""The tables that page, Markdown and terminal share, as text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from amc_mobile.report import wording as say
from amc_mobile.report.facts import Facts
from amc_mobile.report.outcome import AccuracyFacts, SpeedFacts


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One key figure before and after, as text."""

    name: str
    before: str
    after: str
    change: str


def key_rows(facts: Facts) -> tuple[KeyRow, ...]:
    """Latency, accuracy, MACs, parameters and file size, before and after."""
    return tuple(_key_rows(facts))


def _key_rows(facts: Facts) -> Iterator[KeyRow]:
    yield _latency_row(facts)
    if facts.accuracy is not None:
        yield _accuracy_row(facts.accuracy)
    sizes = facts.sizes
    yield _count_row("MACs", sizes.macs_before, sizes.macs_after)
    yield _count_row("Parameters", sizes.params_before, sizes.params_after)
    yield KeyRow(
        "File size",
        say.size(sizes.bytes_before),
        say.size(sizes.bytes_after),
        say.signed_percent(_relative(sizes.bytes_before, sizes.bytes_after)),
    )
    if sizes.memory_before:
        change = say.signed_percent(_relative(sizes.memory_before, sizes.memory_after))
        yield KeyRow("Activations, peak", say.size(sizes.memory_before), say.size(sizes.memory_after), change)


def _latency_row(facts: Facts) -> KeyRow:
    if facts.speed is not None:
        before, after = say.ms(facts.speed.before_us), say.ms(facts.speed.after_us)
        return KeyRow("Latency", before, after, _speed_change(facts.speed))
    budget = facts.budget
    if budget is not None and budget.metric == "latency_us":
        return KeyRow("Latency", say.ms(budget.full), say.ms(budget.predicted), "predicted, not measured")
    return KeyRow("Latency", "–", "–", "not measured")


def _speed_change(speed: SpeedFacts) -> str:
    if speed.emulated:
        return "emulated: no claim"
    return f"{say.times(speed.speedup)} ({say.interval(speed.speedup_ci)})"


def _accuracy_row(accuracy: AccuracyFacts) -> KeyRow:
    name = say.heading(say.ACCURACY_NAMES[accuracy.metric]) + (" accuracy" if accuracy.before_error is not None else "")
    before = _with_error(accuracy.before, accuracy.before_error)
    if accuracy.after is None:
        return KeyRow(name, before, "–", "–")
    after = _with_error(accuracy.after, accuracy.after_error)
    return KeyRow(name, before, after, say.points(accuracy.after - accuracy.before))


def _with_error(share: float, error: float | None) -> str:
    return say.percent(share) + ("" if error is None else f" ±{say.bare_percent(error)}")


def _count_row(name: str, before: int, after: int | None) -> KeyRow:
    return KeyRow(name, say.count(before), say.count(after), say.signed_percent(_relative(before, after)))


def _relative(before: int, after: int | None) -> float | None:
    return after / before - 1 if after is not None and before else None


def key_caption(facts: Facts) -> str:
    """What the key figures rest on."""
    parts = []
    if facts.speed is not None:
        parts.append(
            f"Latency: median of {len(facts.speed.pruned)} interleaved rounds, speed-up with its 95 % interval"
        )
    if facts.accuracy is not None:
        spread = "" if facts.accuracy.before_error is None else ", ± one standard error"
        parts.append(f"accuracy: {facts.accuracy.images:,} test images{spread}")
    return "; ".join(parts) or "Counted by formula; nothing measured yet"


def table_rows(facts: Facts) -> tuple[tuple[str, str], ...]:
    """How well the latency table predicts, beside what MACs alone would do."""
    table = facts.table
    if table is None:
        return ()
    return (
        ("Mean error", say.percent(table.mape)),
        ("Largest", say.percent(table.max_error)),
        ("Bias", say.signed_percent(table.bias)),
        ("Within 5 %", say.percent(table.within_5, 0)),
        ("Within 10 %", say.percent(table.within_10, 0)),
        ("Noise of the clock", say.percent(table.noise_floor)),
        ("MACs alone: mean error", say.percent(table.macs_affine_mape)),
    )

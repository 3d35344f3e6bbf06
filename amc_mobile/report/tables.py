"""The tables that page, Markdown and terminal share, as text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from amc_mobile.report import wording as say
from amc_mobile.report.facts import Facts
from amc_mobile.report.outcome import AccuracyFacts, Change, SpeedFacts


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One key figure before and after, as text."""

    name: str
    before: str
    after: str
    change: str


def key_rows(facts: Facts) -> tuple[KeyRow, ...]:
    """Latency, accuracy, MACs, parameters and file size, before and after; the first two in int8, too."""
    return tuple(_key_rows(facts))


def _key_rows(facts: Facts) -> Iterator[KeyRow]:
    yield _latency_row(facts)
    yield from _int8_latency_row(facts)
    yield from _accuracy_rows(facts.accuracy)
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
        in_int8 = facts.device is not None and facts.device.precision == "int8"
        return KeyRow(f"Latency{' in int8' if in_int8 else ''}", before, after, _speed_change(facts.speed))
    budget = facts.budget
    if budget is not None and budget.metric == "latency_us":
        return KeyRow("Latency", say.ms(budget.full), say.ms(budget.predicted), "predicted, not measured")
    return KeyRow("Latency", "–", "–", "not measured")


def _int8_latency_row(facts: Facts) -> Iterator[KeyRow]:
    """Both networks in int8, where the run's own device timed them beside the float ones."""
    own = next((device for device in facts.devices if device.own), None)
    if own is None or own.int8 is None or own.original_int8 is None:
        return
    before_us, after_us = own.original_int8.latency_us, own.int8.latency_us
    change = "emulated: no claim" if own.info.emulated else say.times(before_us / after_us)
    yield KeyRow("Latency in int8", say.ms(before_us), say.ms(after_us), change)


def _speed_change(speed: SpeedFacts) -> str:
    if speed.emulated:
        return "emulated: no claim"
    return f"{say.times(speed.speedup)} ({say.interval(speed.speedup_ci)})"


def _accuracy_rows(accuracy: AccuracyFacts | None) -> Iterator[KeyRow]:
    """In the precision of the run first, then in the other one."""
    if accuracy is None:
        return
    name = say.heading(say.ACCURACY_NAMES[accuracy.metric]) + (" accuracy" if accuracy.before_error is not None else "")
    named = {"fp32": (name, accuracy.fp32), "int8": (f"{name} in int8", accuracy.int8)}
    if accuracy.precision == "int8":
        named = {"int8": named["int8"], "fp32": (f"{name} in fp32", accuracy.fp32)}
    for label, change in named.values():
        if change is not None:
            yield _accuracy_row(label, change)


def _accuracy_row(name: str, change: Change) -> KeyRow:
    before = _with_error(change.before, change.before_error)
    if change.after is None:
        return KeyRow(name, before, "–", "–")
    after = _with_error(change.after, change.after_error)
    interval = "" if change.interval is None else f" ({say.points_interval(change.interval)})"
    return KeyRow(name, before, after, say.points(change.after - change.before) + interval)


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
            f"Latency: lower quartile of {len(facts.speed.pruned)} interleaved rounds, speed-up with its 95 % interval"
        )
    if facts.accuracy is not None:
        spread = "" if facts.accuracy.before_error is None else ", ± one standard error"
        judged = facts.accuracy.judged
        if judged is not None and judged.interval is not None:
            spread += ", changes with their 95 % interval, image by image"
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

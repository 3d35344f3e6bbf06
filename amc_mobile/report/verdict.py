"""What the report claims, in sentences: the verdict, the budget, and what the reader should not conclude."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from amc_mobile.measurements import DeviceInfo
from amc_mobile.report import wording as say
from amc_mobile.report.devices import DeviceFacts
from amc_mobile.report.limits import BudgetFacts
from amc_mobile.report.outcome import AccuracyFacts, Change, SpeedFacts
from amc_mobile.report.searching import SearchFacts


def verdict(
    device: DeviceInfo | None, speed: SpeedFacts | None, accuracy: AccuracyFacts | None, budget: BudgetFacts | None
) -> str:
    """The whole report in one sentence."""
    parts = [_speed_claim(device, speed, budget)]
    if accuracy is not None and accuracy.after is not None:
        name = say.ACCURACY_NAMES[accuracy.metric]
        in_int8 = " in int8" if accuracy.precision == "int8" else ""
        parts.append(f"{say.percent(accuracy.before)} → {say.percent(accuracy.after)} {name}{in_int8}")
    sentence = ", ".join(parts)
    if speed is not None and not speed.emulated and speed.predicted_us is not None:
        sentence += f"; the table predicted {say.ms(speed.predicted_us)}, the clock said {say.ms(speed.after_us)}"
        sentence += f" (prediction off by {say.signed_percent(speed.prediction_error)})"
    return sentence + "."


def _speed_claim(device: DeviceInfo | None, speed: SpeedFacts | None, budget: BudgetFacts | None) -> str:
    name = device.model if device is not None else "the device"
    if speed is None:
        return _unmeasured_claim(budget)
    if speed.emulated:
        return f"No speed claim: {name} is emulated, its clock says nothing about a real device"
    interval = f"(95{say.NBSP}% CI {say.interval(speed.speedup_ci)})"
    low, high = speed.speedup_ci
    if low > 1:
        return f"{say.times(speed.speedup)} faster on {name} {interval}"
    if high < 1:
        return f"Slower on {name}: {say.times(speed.speedup)} the original's speed {interval}"
    return f"No measurable speed-up on {name}: {say.times(speed.speedup)} {interval}"


def _unmeasured_claim(budget: BudgetFacts | None) -> str:
    if budget is None or budget.full is None or budget.predicted is None:
        return "Nothing measured yet"
    before, after = say.in_metric(budget.full, budget.metric), say.in_metric(budget.predicted, budget.metric)
    source = "predicted by the table" if budget.metric == "latency_us" else "counted"
    return f"{before} → {after} ({source}; speed not measured yet)"


def budget_sentence(budget: BudgetFacts, speed: SpeedFacts | None) -> str:
    """Asked, predicted, measured; held or exceeded and by how much."""
    where = f" on {budget.device}" if budget.device else ""
    asked = f"asked for at most {say.in_metric(budget.limit, budget.metric)}{where}"
    if budget.share is not None:
        what = say.METRIC_NAMES[budget.metric] + (f" in {budget.precision}" if budget.precision != "fp32" else "")
        asked += f" ({say.percent(budget.share)} of the original's {what})"
    parts = [asked]
    if budget.metric != "latency_us":
        verb = "needs" if budget.metric == "memory_bytes" else "has"
        parts.append(f"the network {verb} {say.in_metric(budget.predicted, budget.metric)}, counted exactly")
    elif budget.predicted is not None:
        parts.append(f"the table predicted {say.ms(budget.predicted)}")
    if budget.measured is not None:
        parts.append(f"the clock said {say.ms(budget.measured)}")
    return f"{_standing_words(budget, speed)}: {', '.join(parts)}."


def _standing_words(budget: BudgetFacts, speed: SpeedFacts | None) -> str:
    room = say.percent(abs(budget.excess)) if budget.excess is not None else "–"
    spread = ""
    if budget.measured is not None and speed is not None and abs(budget.excess or 0.0) <= speed.round_spread:
        spread = f" (within the ±{say.percent(speed.round_spread)} between rounds)"
    match budget.standing:
        case "emulated":
            return "Not proven, because the device is emulated"
        case "predicted":
            if budget.excess is None:
                return "Not known, as no table tells"
            verb = "holds" if budget.excess <= 0 else "is exceeded"
            return f"By the table it {verb}, not measured yet"
        case "held":
            return f"Held, with {room} to spare{spread}"
        case "exceeded":
            return f"Exceeded by {room}{spread}"


def honesty_notes(
    accuracy: AccuracyFacts | None,
    search: SearchFacts | None,
    speed: SpeedFacts | None,
    budget: BudgetFacts | None,
    devices: Sequence[DeviceFacts] = (),
) -> tuple[str, ...]:
    """What a careful reader would ask, answered before the asking."""
    notes = []
    if speed is not None and speed.emulated:
        notes.append("The device is emulated: its times are not those of any real hardware, so no speed-up is claimed.")
    if accuracy is not None:
        notes += _accuracy_notes(accuracy)
    if search is not None:
        notes += _search_notes(search, budget)
    if devices:
        notes += _speed_notes(speed, devices)
    notes.append("1 MAC = 2 FLOPs. Counts are MACs of one image, after batch normalisations are folded.")
    return tuple(notes)


def _speed_notes(speed: SpeedFacts | None, devices: Sequence[DeviceFacts]) -> Iterator[str]:
    yield (
        "The networks were timed in turns, round by round, on the same device. A latency is the lower quartile of the "
        "rounds, each of them a median: what disturbs a network only slows it down. Raw values are in comparison.json "
        "and devices/*.json."
    )
    if any(device.layers for device in devices):
        yield (
            "Times of layers under “Speed” are those of the runtime’s own profiler, in sessions of their own; under "
            "“Every layer” they are the latency table’s."
        )
    else:
        yield "Times of layers come from the latency table, not from the comparison."
    if speed is not None and speed.drift is not None:
        yield (
            f"The original took {say.ms(speed.before_us / speed.drift)} when the latency table was measured and "
            f"{say.ms(speed.before_us)} in this comparison ({say.signed_percent(speed.drift - 1)}: clock, heat and "
            "load of the device). Prediction and latency budget are given on the clock of the comparison."
        )


def _accuracy_notes(accuracy: AccuracyFacts) -> list[str]:
    error = accuracy.after_error if accuracy.after_error is not None else accuracy.before_error
    unseen = f"{accuracy.images:,} test images that neither the search, the repair nor the fine-tuning ever saw"
    notes = [f"Accuracy is measured on {unseen}. {_spread(error)}"]
    if accuracy.finetuned and accuracy.uniform is not None:
        notes.append(
            "Uniform pruning was repaired in the same way but not fine-tuned: compare it with “pruned and repaired”."
        )
    if accuracy.judged is not None:
        notes += _pair_note(accuracy.judged, "The change")
    if accuracy.lead is not None:
        notes += _pair_note(accuracy.lead, "The lead over uniform pruning, both repaired,")
    return notes


def _pair_note(change: Change, what: str) -> list[str]:
    """Whether a difference between two networks, which answered the same images, is more than chance."""
    if change.after is None or change.interval is None:
        return []
    low, high = change.interval
    told = "these images cannot tell it from none" if low <= 0 <= high else "more than the choice of images explains"
    return [
        f"{what} of {say.points(change.after - change.before)} lies between {say.points_interval(change.interval)} "
        f"(95{say.NBSP}%, image by image): {told}."
    ]


def _spread(error: float | None) -> str:
    if error is None:
        return (
            "mAP is the mean average precision of COCO, over overlaps (IoU) of 0.5 to 0.95; mAP50 is that at 0.5. "
            "Other images would give others; no standard error is given."
        )
    return f"The standard error at that number is ±{say.points(error).lstrip('+')} (square root of p (1 − p) / n)."


_BY_SENSITIVITY = {"sensitivity", "greedy", "knapsack", "guided"}


def _search_notes(search: SearchFacts, budget: BudgetFacts | None) -> list[str]:
    notes = [
        f"The search scored every policy on {search.images:,} images of its own. The best of {len(search.points):,} "
        "scores on these images is biased upwards; only the test accuracy above is not."
    ]
    if search.local_episodes:
        notes.append(
            f"{search.local_episodes:,} of the {search.episodes:,} policies of learning agents were random changes to "
            "the best one so far, which may be an opponent’s"
            + (", and the chosen widths come from one of them." if search.phase == "local" else ".")
        )
    if _BY_SENSITIVITY & {row.agent for row in search.agents}:
        notes.append(
            "The agents “sensitivity”, “greedy”, “knapsack” and “guided” also rest on scores of single pruned groups "
            "(sensitivity.json), which are not counted among the policies they tried."
        )
    if "ddpg" not in search.agent and search.episodes and not search.by_hand:
        notes.append(
            f"The widths that ship were found by the agent “{search.agent}”, not by reinforcement learning: it scored "
            "higher under the same evaluator and budget."
        )
    if budget is not None and budget.metric == "latency_us" and budget.standing == "exceeded":
        notes.append(
            "The budget is a guarantee on the table's prediction; the clock exceeded it. A table with more carriers "
            "near this policy (profile.carriers) narrows the gap."
        )
    return notes

"""What the clock said of the network that the search chose, and what was done about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from amc_mobile.measurements import TableCheck
from amc_mobile.report import wording as say

_ANOTHER = 0.03  # beyond which a clock is another than the table's


@dataclass(frozen=True, slots=True)
class Settled:
    """settled.json: the checks in their order, or why there were none."""

    checks: tuple[TableCheck, ...] = ()
    skipped: str = ""


def _drift(check: TableCheck) -> str:
    """That the clock was another one, where it was; it has been taken out."""
    off = check.drift - 1.0
    if abs(off) <= _ANOTHER:
        return ""
    return f"; the original took {say.signed_percent(off)} beside the table, which is taken out"


def sentences(settled: Settled | None, tolerance: float) -> Iterator[str]:
    """One for each check, and one for each repair."""
    if settled is None:
        return
    if settled.skipped:
        yield f"The chosen network was not timed after the search: {settled.skipped}."
    for number, check in enumerate(settled.checks):
        when = (
            "After the search the chosen network was timed" if number == 0 else "The network chosen then was timed too"
        )
        yield (
            f"{when}: the table said {say.ms(check.predicted_us)}, the clock {say.ms(check.measured_us)} "
            f"(off by {say.signed_percent(check.error)}{_drift(check)})."
        )
        if check.repaired:
            yield (
                f"That is more than {say.percent(tolerance, 0)}: it and {check.added - 1} neighbours were measured "
                f"as further carriers and the table was fitted again (its own mean error was "
                f"{say.percent(check.mape_before)}, now {say.percent(check.mape_after)}). The search was finished on "
                "the repaired table."
            )
        elif abs(check.error) > tolerance and check.other_clock:
            yield "The device was in another mood than when the table was measured, and the table was left as it is."
        elif abs(check.error) > tolerance:
            yield f"That is more than {say.percent(tolerance, 0)}, and no further repair was allowed."

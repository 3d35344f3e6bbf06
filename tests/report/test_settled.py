"""What the report says of the chosen network on the clock."""

from __future__ import annotations

from amc_mobile.measurements import TableCheck
from amc_mobile.report.settled import Settled, sentences


def check(error: float, **changes) -> TableCheck:
    return TableCheck((8, 16), 1000.0 * (1 + error), 1000.0, error, **changes)


def told(settled: Settled | None) -> list[str]:
    return [sentence.replace("\xa0", " ") for sentence in sentences(settled, 0.03)]


def test_a_right_table_takes_one_sentence():
    (sentence,) = told(Settled((check(0.01),)))
    assert "the table said 1.01 ms, the clock 1.00 ms (off by +1.0 %)" in sentence


def test_a_repair_is_told_with_its_effect():
    repaired = check(-0.08, repaired=True, added=4, mape_before=0.01, mape_after=0.012)
    first, second, third = told(Settled((repaired, check(0.02))))
    assert "off by -8.0 %" in first.replace("−", "-")
    assert "more than 3 %" in second and "3 neighbours" in second and "1.0 %, now 1.2 %" in second
    assert third.startswith("The network chosen then was timed too")


def test_a_table_that_stays_wrong_is_admitted():
    assert "no further repair was allowed" in told(Settled((check(0.05),)))[-1]


def test_what_was_not_timed_says_why():
    assert told(Settled(skipped="the table is of Pixel 1, which is not here")) == [
        "The chosen network was not timed after the search: the table is of Pixel 1, which is not here."
    ]
    assert told(None) == []

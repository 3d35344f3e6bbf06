"""Numbers for people."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amc_mobile.report import wording as say


def test_the_examples_in_the_docstrings_are_true():
    assert doctest.testmod(say).failed == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (say.ms(1100.0), "1.10 ms"),
        (say.ms(999_600.0), "1,000 ms"),
        (say.ms(None), "–"),
        (say.bare_ms(4.0), "0.004"),
        (say.percent(0.98765), "98.8 %"),
        (say.signed_percent(-0.016), "−1.6 %"),
        (say.signed_percent(0.0004), "0.0 %"),
        (say.signed_percent(-0.0004), "0.0 %"),
        (say.points(-0.002), "−0.2 points"),
        (say.points(0.01), "+1.0 points"),
        (say.count(300_774_272), "300.8 M"),
        (say.count(12_345), "12.3 k"),
        (say.count(9_999), "9,999"),
        (say.size(14_213_000), "14.2 MB"),
        (say.size(12), "12 bytes"),
        (say.in_metric(40.6e6, "macs"), "40.60 M MACs"),
        (say.times(2.0123), "2.01x"),
        (say.interval((1.98, 2.041)), "1.98–2.04"),
        (say.duration(42.0), "42 s"),
        (say.duration(185.4), "3 min 05 s"),
        (say.signed(-0.0386), "−0.0386"),
    ],
)
def test_formats(text, expected):
    assert text.replace("\xa0", " ") == expected


@given(st.floats(1e-3, 1e12))
def test_three_significant_digits_lose_less_than_a_percent(value):
    assert float(say.significant(value, most_decimals=6).replace(",", "")) == pytest.approx(value, rel=0.0051)


@given(st.text(), st.integers(3, 40))
def test_clipped_text_fits_and_prints(text, longest):
    clipped = say.clipped(text, longest)
    assert len(clipped) <= longest
    assert clipped.isprintable()


@given(st.text())
def test_plain_ascii_is_ascii(text):
    assert say.plain_ascii(text).isascii()

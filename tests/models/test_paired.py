"""Intervals hold what they promise to hold, and pairing makes them narrower."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amc_mobile.models.paired import accuracy_interval, difference_interval


@given(st.integers(1, 5000), st.data())
def test_an_accuracy_lies_in_its_interval(images, data):
    right = data.draw(st.integers(0, images))
    low, high = accuracy_interval(right / images, images)
    assert 0 <= low <= right / images + 1e-12
    assert right / images - 1e-12 <= high <= 1
    assert high - low > 0


def test_wilsons_own_numbers():
    """Of 10 tries none: (0, 0.2775); of 263 tries 81: (0.2553, 0.3662), as tabled by Newcombe (1998), table I."""
    assert accuracy_interval(0.0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert accuracy_interval(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)


def simulated(generator, images, gain):
    """Two networks that find the same images hard; the first is better by `gain` on average."""
    easiness = generator.beta(4, 1, images) * (1 - gain)
    draw = generator.random((2, images))
    return (draw[:1] < easiness + gain), (draw[1:] < easiness)


def test_the_interval_covers_the_true_difference_about_as_often_as_it_says():
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(300):
        one, other = simulated(generator, 400, 0.05)
        low, high = difference_interval(one, other, generator)
        hits += low <= 0.05 <= high
    assert 0.91 < hits / 300 < 0.985


def test_networks_that_fail_on_the_same_images_differ_by_nothing():
    right = np.random.default_rng(0).random((3, 200)) < 0.8
    assert difference_interval(right, right, np.random.default_rng(1)) == (0.0, 0.0)


def test_pairing_is_narrower_than_two_intervals_apart():
    generator = np.random.default_rng(0)
    base = generator.random((1, 1000)) < 0.8
    other = base ^ (generator.random((1, 1000)) < 0.02)
    low, high = difference_interval(base, other, generator)
    apart = np.diff(accuracy_interval(0.8, 1000))[0]
    assert high - low < 0.5 * apart


def test_the_same_generator_gives_the_same_interval_and_turning_round_mirrors_it():
    generator = np.random.default_rng(0)
    one, other = simulated(generator, 300, 0.1)
    first = difference_interval(one, other, np.random.default_rng(5))
    assert first == difference_interval(one, other, np.random.default_rng(5))
    low, high = difference_interval(other, one, np.random.default_rng(5))
    assert (-high, -low) == pytest.approx(first, abs=0.01)

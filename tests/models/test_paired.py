"""Intervals hold what they promise to hold, and pairing makes them narrower."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amc_mobile.models.paired import accuracy_interval, change_interval, difference_interval, share_interval


@given(st.integers(1, 500), st.integers(1, 4), st.data())
def test_an_accuracy_lies_in_its_interval(images, seeds, data):
    counts = data.draw(st.lists(st.integers(0, images), min_size=seeds, max_size=seeds))
    right = np.arange(images) < np.array(counts)[:, None]
    low, high = accuracy_interval(right)
    assert 0 <= low <= right.mean() + 1e-12
    assert right.mean() - 1e-12 <= high <= 1
    assert high - low > 0


def test_wilsons_own_numbers():
    """Of 10 tries none: (0, 0.2775); of 263 tries 81: (0.2553, 0.3662), as tabled by Newcombe (1998), table I."""
    assert accuracy_interval(np.zeros((1, 10), bool)) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert accuracy_interval(np.arange(263)[None] < 81) == pytest.approx((0.2553, 0.3662), abs=1e-4)


def test_an_interval_of_a_share_stays_within_zero_and_one():
    assert share_interval(1.0, 40)[1] == 1.0 and share_interval(1.0, 40)[0] < 1.0
    assert share_interval(0.5, 0) == (0.0, 1.0)


def trained(generator, seeds, images, gain, luck):
    """Two networks that find the same images hard; the first is better by `gain`, each training by `luck` or less."""
    easiness = 0.6 + 0.2 * generator.random(images)
    chances = [easiness + better + luck * generator.standard_normal((seeds, 1)) for better in (gain, 0.0)]
    return [generator.random((seeds, images)) < chance for chance in chances]


@pytest.mark.parametrize(("seeds", "luck"), [(1, 0.0), (3, 0.0), (3, 0.03), (5, 0.03)])
def test_the_interval_holds_the_true_difference_as_often_as_it_says(seeds, luck):
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        low, high = difference_interval(*trained(generator, seeds, 300, 0.05, luck))
        hits += low <= 0.05 <= high
    assert 0.92 < hits / 400 <= 0.995


def test_luck_of_the_seeds_widens_the_interval():
    generator = np.random.default_rng(0)
    widths = [np.ptp(difference_interval(*trained(generator, 3, 2000, 0.02, luck))) for luck in (0.0, 0.05)]
    assert widths[1] > 2 * widths[0]


def test_networks_that_fail_on_the_same_images_may_differ_on_others():
    right = np.random.default_rng(0).random((3, 200)) < 0.8
    low, high = difference_interval(right, right)
    assert low == -high and 0.005 < high < 0.015


def test_pairing_is_narrower_than_two_intervals_apart():
    generator = np.random.default_rng(0)
    base = generator.random((1, 1000)) < 0.8
    other = base ^ (generator.random((1, 1000)) < 0.02)
    assert np.ptp(difference_interval(base, other)) < 0.5 * np.ptp(accuracy_interval(base))


@pytest.mark.parametrize(("images", "lost", "gained"), [(40, 0.02, 0.02), (650, 0.06, 0.02), (2000, 0.01, 0.03)])
def test_a_change_is_within_its_interval_as_often_as_it_says(images, lost, gained):
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(600):
        drawn, before = generator.random(images), generator.random(images) < 0.7
        after = np.where(before, drawn >= lost / 0.7, drawn < gained / 0.3)
        low, high = change_interval(before, after)
        hits += low <= gained - lost <= high
    assert 0.93 < hits / 600 <= (0.985 if images > 100 else 1.0)
    assert change_interval(before, before)[1] > 1 / len(before)  # few images prove nothing, even where none changes


def test_turning_round_mirrors_the_interval():
    one, other = trained(np.random.default_rng(0), 3, 300, 0.1, 0.02)
    low, high = difference_interval(other, one)
    assert (-high, -low) == pytest.approx(difference_interval(one, other))

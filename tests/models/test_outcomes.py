"""Races: given up only when they are lost, always with the same score, and never at the cost of the winner."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amc_mobile.models.outcomes import Judge, Outcomes
from amc_mobile.search.rewards import REWARDS
from amc_mobile.types import Race

CLASSES = 7


def batches(logits, size=3):
    return [logits[start : start + size] for start in range(0, len(logits), size)]


def tournament(judge, tables, reward, racing):
    """Index and score of the best of all tables, met one after the other; and the scores of all."""
    value = REWARDS[reward]
    best, scores = None, []
    for index, table in enumerate(tables):
        race = Race(reward, value(best[1])) if racing and best is not None else None
        scores.append(judge.outcomes(batches(table), race).score(race))
        merit = (value(scores[-1]), -scores[-1].kl)
        if best is None or merit > (value(best[1]), -best[1].kl):
            best = (index, scores[-1])
    return best, scores


@given(
    st.integers(1, 70),
    st.integers(2, 6),
    st.sampled_from(["top1", "top5", "kl"]),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_the_winner_is_the_same_with_and_without_racing(images, candidates, reward, with_twin, random):
    """Logits are small integers, so that there are ties within and between tables; a twin ties exactly."""
    rng = np.random.default_rng(random.getrandbits(32))
    labels = rng.integers(CLASSES, size=images)
    tables = []
    for _ in range(candidates):
        good = rng.random(images) < rng.random()
        tables.append(rng.integers(-2, 3, (images, CLASSES)) + 3.0 * (np.eye(CLASSES)[labels] * good[:, None]))
    tables += [tables[0].copy()] * with_twin
    random.shuffle(tables)
    judge = Judge(labels, rng.integers(-2, 3, (images, CLASSES)).astype(float))
    best, exact = tournament(judge, tables, reward, racing=False)
    raced_best, raced = tournament(judge, tables, reward, racing=True)
    assert raced_best == best
    winning = REWARDS[reward](best[1])
    for full, early in zip(exact, raced, strict=True):
        assert early == full or (early.images < images and REWARDS[reward](early) < winning)


def losing(images=64):
    """Wrong on every second image, divergence 2 there and 0 elsewhere."""
    ranks = np.tile([0, 5], images // 2)
    return Outcomes(ranks, np.where(ranks > 0, 2.0, 0.0), images)


@pytest.mark.parametrize(
    ("race", "images"),
    [
        (Race("top1", -0.5), 64),  # ends in a tie: not lost
        (Race("top1", -0.25), 34),  # 17 errors are more than a quarter, 16 are not
        (Race("top5", -0.25), 34),
        (Race("kl", -1.0), 64),  # a tie again
        (Race("kl", -0.5), 34),
        (Race("kl", -0.001), 8),  # lost at once, but an eighth is looked at
        (None, 64),
    ],
)
def test_a_race_is_given_up_at_the_first_subset_that_decides_it(race, images):
    score = losing().score(race)
    assert score.images == images
    assert (score.top1, score.top5, score.kl) == (0.5, 0.5, 1.0)


def test_the_score_follows_from_the_race_and_not_from_how_far_it_was_run():
    full, race = losing(), Race("kl", -0.5)
    for seen in range(34, 65):
        part = Outcomes(full.ranks[:seen], full.divergences[:seen], 64)
        assert part.score(race) == full.score(race)
    assert Outcomes(full.ranks[:33], full.divergences[:33], 64).score(race) is None
    assert Outcomes(full.ranks[:63], full.divergences[:63], 64).score() is None


@pytest.mark.parametrize("size", [1, 5, 64])
def test_no_more_is_run_than_the_race_needs(size):
    labels, asked = np.zeros(64, int), []

    def answers():
        for batch in batches(np.tile(np.eye(CLASSES)[1], (64, 1)), size):  # always wrong
            asked.append(len(batch))
            yield batch

    race = Race("top1", -0.5)
    assert Judge(labels).outcomes(answers(), race).score(race).images == 34
    assert 34 <= sum(asked) < 34 + size

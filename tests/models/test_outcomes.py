"""Races: given up only when they are lost, always with the same score, and never at the cost of the winner."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amc_mobile.models.outcomes import Judge, Outcomes
from amc_mobile.search.rewards import REWARDS
from amc_mobile.trials import Race
from amc_mobile.types import Score

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
    tables = [table[judge.order] for table in tables]
    best, exact = tournament(judge, tables, reward, racing=False)
    raced_best, raced = tournament(judge, tables, reward, racing=True)
    assert raced_best == best
    winning = REWARDS[reward](best[1])
    for full, early in zip(exact, raced, strict=True):
        assert early == full or (early.images < images and REWARDS[reward](early) < winning)


def losing(images=64):
    """Wrong on every second image from the second on, divergence 2 there; the fair sample sees no error."""
    ranks = np.tile([0, 5], images // 2)
    return Outcomes(ranks, np.where(ranks > 0, 2.0, 0.0), images)


@pytest.mark.parametrize(
    ("race", "images", "wrong"),
    [
        (Race("top1", -0.5), 64, 32),  # ends in a tie: not lost
        (Race("top1", -0.25), 34, 17),  # 17 errors are more than a quarter, 16 are not
        (Race("top5", -0.25), 34, 17),
        (Race("kl", -1.0), 64, 32),  # a tie again
        (Race("kl", -0.5), 34, 17),
        (Race("kl", -0.001), 8, 4),  # lost at once, but an eighth is looked at
        (None, 64, 32),
    ],
)
def test_a_race_is_given_up_at_the_first_subset_that_decides_it(race, images, wrong):
    """The fair sample is too kind here: the bounds take its place."""
    score = losing().score(race)
    assert score == Score(top1=1 - wrong / 64, top5=1 - wrong / 64, kl=2 * wrong / 64, images=images)


def test_a_score_that_was_given_up_is_the_mean_over_the_fair_sample():
    """Every fourth visit; all others are hard images, and all wrong."""
    ranks = np.where(np.arange(64) % 4 == 0, np.arange(64) // 4 % 2, 9)
    score = Outcomes(ranks, np.where(ranks > 0, 1.5, 0.0), 64).score(Race("top1", -0.3))
    assert (score.images, score.top1, score.top5) == (24, 0.5, (64 - 18) / 64)
    assert score.kl == 0.75


@given(st.integers(1, 200), st.integers(0, 10**6))
def test_every_image_is_visited_once_and_the_fair_sample_is_fair(images, seed):
    """In any beginning of the fair sample about as many images are easy as are hard."""
    reference = np.random.default_rng(seed).standard_normal((images, CLASSES))
    labels = np.random.default_rng(seed + 1).integers(CLASSES, size=images)
    order = Judge(labels, reference).order
    assert sorted(order.tolist()) == list(range(images))
    best_other = np.where(np.eye(CLASSES, dtype=bool)[labels], -np.inf, reference).max(axis=1)
    difficulty = np.argsort(np.argsort(best_other - reference[np.arange(images), labels], kind="stable"))
    fair, others = difficulty[order[::4]], difficulty[np.delete(order, np.s_[::4])]
    assert np.all(np.diff(others) < 0)  # hardest first
    for seen in range(1, len(fair) + 1):
        assert abs(np.sum(fair[:seen] < images / 2) - seen / 2) <= 1 + np.log2(images)
    np.testing.assert_array_equal(Judge(labels).order, np.arange(images))


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

"""The front holds exactly the trials that no other beats, for every cost; estimates stay outside."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from amc_mobile.search.front import exactly_scored, front, prices, staircase
from amc_mobile.trials import Trial
from amc_mobile.types import Cost, Score

small = st.integers(1, 6)


def trial(index: int, macs: int, top1: float, *, images: int = 100, kl: float = 0.1, **costs) -> Trial:
    cost = Cost(**{"macs": macs, "params": 10 * macs, "bytes": 100 - macs, **costs})
    return Trial(index, "ddpg", "explore", (macs, 8), cost, Score(top1, top1, kl, images), top1 - 1, 0.1)


@settings(max_examples=200)
@given(st.lists(st.tuples(small, small, st.sampled_from([0.1, 0.2])), min_size=1, max_size=12))
def test_a_trial_is_on_the_front_exactly_if_nobody_beats_it(rows):
    trials = [trial(index, macs, top1 / 10, kl=kl) for index, (macs, top1, kl) in enumerate(rows)]
    found = front(trials, "top1")
    for metric, price in prices(trials).items():
        chosen = found.metrics[metric]
        for one in trials:
            beaten = any(
                other.score.top1 >= one.score.top1
                and price(other.cost) <= price(one.cost)
                and (other.score.top1 > one.score.top1 or price(other.cost) < price(one.cost))
                for other in trials
            )
            twins = [
                other.index
                for other in trials
                if (other.score.top1, price(other.cost)) == (one.score.top1, price(one.cost))
            ]
            assert not (beaten and one.index in chosen)
            assert beaten or sum(index in chosen for index in twins) == 1  # of equals one stands for all


def test_it_is_sorted_by_cost_and_gets_better_with_it():
    trials = [trial(0, 3, 0.7), trial(1, 1, 0.5), trial(2, 2, 0.4), trial(3, 4, 0.9), trial(4, 5, 0.8)]
    found = front(trials, "top1")
    assert found.metrics["macs"] == found.metrics["params"] == (1, 0, 3)
    assert found.metrics["bytes"] == (4, 3)  # where the widest is the cheapest, little else is left
    assert [point.trial for point in found.points] == [0, 1, 3, 4]
    assert [point.accuracy for point in found.points] == [0.7, 0.5, 0.9, 0.8]


def test_of_equals_the_smaller_divergence_stays():
    trials = [trial(0, 2, 0.7, kl=0.2), trial(1, 2, 0.7, kl=0.1), trial(2, 2, 0.7, kl=0.1)]
    assert front(trials, "top1").metrics["macs"] == (1,)


def test_a_trial_that_lost_its_race_is_only_an_estimate():
    trials = [trial(0, 2, 0.7), trial(1, 1, 0.99, images=12)]
    assert [one.index for one in exactly_scored(trials)] == [0]
    assert front(trials, "top1").metrics["macs"] == (0,)


def test_accuracy_is_what_the_reward_is_about():
    trials = [trial(0, 2, 0.7, kl=0.5), trial(1, 3, 0.6, kl=0.1)]
    assert front(trials, "top1").metrics["macs"] == (0,)
    found = front(trials, "kl")
    assert found.metrics["macs"] == (0, 1)
    assert [point.accuracy for point in found.points] == [-0.5, -0.1]


def test_only_costs_that_all_trials_have_make_a_front():
    bare, timed = trial(0, 2, 0.7), trial(1, 3, 0.8, latency_us=5.0, memory_bytes=7, elsewhere_us={"pixel": 9.0})
    assert set(front([bare, timed], "top1").metrics) == {"macs", "params", "bytes"}
    every = front([timed], "top1").metrics
    assert set(every) == {"latency_us", "macs", "params", "bytes", "memory_bytes", "latency_us@pixel"}


def test_no_trials_make_no_front():
    assert front([], "top1").points == () and front([], "top1").metrics == {}
    assert staircase([], lambda cost: cost.macs, "top1") == ()

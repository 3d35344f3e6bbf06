from __future__ import annotations

import numpy as np
import pytest

from amc_mobile.graph.traced import first_channels
from amc_mobile.profile.carriers import smallest
from amc_mobile.profile.compare import compare, median_interval
from amc_mobile.types import TimingProtocol
from tests.fakes.analytic import AnalyticDevice
from tests.profile.networks import residual_network

PROTOCOL = TimingProtocol(rounds=9, warmups=1, runs=20)


def pair() -> tuple[bytes, bytes]:
    traced = residual_network()
    small = traced.slice(first_channels(smallest(traced.network, 0.2, 8)))
    return traced.model.SerializeToString(), small.SerializeToString()


def test_the_speedup_is_the_ratio_and_lies_in_its_interval():
    exact = compare(AnalyticDevice(), *pair(), PROTOCOL, None)
    assert exact.speedup == pytest.approx(exact.latency_before_us / exact.latency_after_us)
    assert exact.speedup_ci == pytest.approx((exact.speedup, exact.speedup))
    assert (exact.predicted_us, exact.prediction_error) == (None, None)
    noisy = compare(AnalyticDevice(noise=0.05), *pair(), PROTOCOL, None)
    low, high = noisy.speedup_ci
    assert low < noisy.speedup < high
    assert low < exact.speedup < high
    assert high / low < 1.1


def test_a_device_that_slows_down_slows_both():
    steady = compare(AnalyticDevice(), *pair(), PROTOCOL, None)
    slowing = compare(AnalyticDevice(drift=lambda seconds: 1 + 2 * seconds), *pair(), PROTOCOL, None)
    assert slowing.latency_before_us > 1.1 * steady.latency_before_us
    assert slowing.speedup == pytest.approx(steady.speedup, rel=0.1)


def test_prediction_against_the_clock():
    original, pruned = pair()
    measured = compare(AnalyticDevice(), original, pruned, PROTOCOL, None).latency_after_us
    seen = compare(AnalyticDevice(), original, pruned, PROTOCOL, 1.04 * measured)
    assert seen.prediction_error == pytest.approx(0.04)


def test_a_prediction_is_brought_to_todays_clock():
    original, pruned = pair()
    then = compare(AnalyticDevice(), original, pruned, PROTOCOL, None)
    slow = AnalyticDevice(drift=lambda seconds: 1.25)
    now = compare(slow, original, pruned, PROTOCOL, then.latency_after_us, reference_us=then.latency_before_us)
    assert now.drift == pytest.approx(now.latency_before_us / then.latency_before_us)
    assert now.drift > 1.15
    assert now.prediction_error == pytest.approx(0.0, abs=0.02)


def test_the_interval_covers_the_median_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(120):
        low, high = median_interval(rng.lognormal(0.5, 0.02, 15).tolist(), rng)
        hits += low <= np.exp(0.5) <= high
    assert 0.88 <= hits / 120 <= 1.0


def test_the_same_seed_gives_the_same_interval():
    values = [1.9, 2.0, 2.1, 2.05, 1.95]
    assert median_interval(values, np.random.default_rng(3)) == median_interval(values, np.random.default_rng(3))

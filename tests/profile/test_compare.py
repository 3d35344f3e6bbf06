"""Original against pruned on devices whose law is known, and on this machine's processor."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydantic import TypeAdapter

from amc_mobile.device.host import HostDevice
from amc_mobile.device.protocol import ModelsFailed
from amc_mobile.errors import DeviceError
from amc_mobile.graph.traced import first_channels
from amc_mobile.measurements import Comparison, TimingProtocol
from amc_mobile.profile.carriers import smallest
from amc_mobile.profile.compare import compare
from amc_mobile.profile.interval import median_interval
from amc_mobile.profile.variants import Variants
from amc_mobile.runs import plain
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


@pytest.mark.parametrize("lasts", [0.13, 0.23, 0.41])
def test_a_device_with_moods_is_not_mistaken_in_many_short_rounds(lasts):
    """One that is a third slower again and again: a quarter of the rounds of each network is not."""
    original, pruned = pair()
    steady = compare(AnalyticDevice(), original, pruned, PROTOCOL, None)
    whole_s = sum(map(sum, steady.original.values_us + steady.pruned.values_us)) / 1e6
    moody = AnalyticDevice(drift=lambda seconds: 1.35 if seconds / whole_s % lasts > 0.4 * lasts else 1.0)
    short = replace(PROTOCOL, rounds=45, runs=4)
    found = compare(moody, original, pruned, short, steady.latency_after_us, reference_us=steady.latency_before_us)
    assert found.speedup == pytest.approx(steady.speedup, rel=0.02)
    assert found.prediction_error == pytest.approx(0.0, abs=0.02)
    assert found.speedup_ci[1] / found.speedup_ci[0] < 1.04
    assert found.latency_before_us / found.latency_after_us == pytest.approx(found.speedup)


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


def test_layers_are_timed_where_the_device_tells_a_nodes_time():
    device, traced = AnalyticDevice(), residual_network()
    found = compare(device, *pair(), PROTOCOL, None, variants=Variants(traced, device.info()))
    assert [time.layer for time in found.layers] == [*(layer.name for layer in traced.network.layers), ""]
    assert all(time.before_us >= time.after_us > 0 for time in found.layers)
    assert sum(time.before_us for time in found.layers) == pytest.approx(found.latency_before_us, rel=0.5)
    assert compare(device, *pair(), PROTOCOL, None).layers == ()
    for silent in (AnalyticDevice(gives_nodes=False), AnalyticDevice(names_layers=False)):
        assert compare(silent, *pair(), PROTOCOL, None, variants=Variants(traced, silent.info())).layers == ()


def test_int8_is_timed_beside_the_others():
    traced, device = residual_network(), HostDevice()
    original, pruned = pair()
    int8 = Variants(traced, replace(device.info(), precision="int8")).model(smallest(traced.network, 0.2, 8))
    protocol = TimingProtocol(rounds=3, warmups=2, runs=5, min_time_s=0.0, profile_warmups=1, profile_runs=2)
    variants = Variants(traced, device.info())
    found = compare(device, original, pruned, protocol, None, int8=int8, variants=variants)
    assert found.latency_int8_us == pytest.approx(found.latency_before_us / found.speedup_int8)
    assert found.speedup_int8_ci[0] <= found.speedup_int8 <= found.speedup_int8_ci[1]
    assert found.bytes == {"original": len(original), "pruned": len(pruned), "int8": len(int8)}
    assert (found.failed, found.int8.nodes) == ({}, ())
    assert {time.layer for time in found.layers} == {"", *(layer.name for layer in traced.network.layers)}


QUICK = TimingProtocol(rounds=3, warmups=1, runs=3, min_time_s=0.0)


def test_int8_that_does_not_run_leaves_the_others_times():
    original, pruned = pair()
    found = compare(HostDevice(), original, pruned, QUICK, None, int8=b"no model")
    assert found.failed.keys() == {"int8"} and "cannot run int8" in found.failed["int8"]
    assert (found.int8, found.latency_int8_us, found.speedup_int8) == (None, None, None)
    assert found.speedup > 0


@pytest.mark.parametrize("label", ["original", "pruned"])
def test_without_original_or_pruned_network_there_is_nothing_to_compare(label: str):
    models = dict(zip(("original", "pruned"), pair(), strict=True)) | {label: b"no model"}
    with pytest.raises(DeviceError, match=f"cannot run {label}") as caught:
        compare(HostDevice(), models["original"], models["pruned"], QUICK, None)
    assert isinstance(caught.value, ModelsFailed)


def test_a_comparison_survives_its_file_and_older_files_are_read():
    kind, found = TypeAdapter(Comparison), compare(AnalyticDevice(), *pair(), PROTOCOL, None)
    assert kind.validate_python(plain(found)) == found
    newer = {"int8", "latency_int8_us", "speedup_int8", "speedup_int8_ci", "failed", "bytes", "layers"}
    older = {key: value for key, value in plain(found).items() if key not in newer}
    assert kind.validate_python(older) == replace(found, bytes={})


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

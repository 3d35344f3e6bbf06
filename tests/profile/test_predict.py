"""Predictions by a table's laws: the truth at any width, and the table's price where that is exact."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from amc_mobile.profile.carriers import draw
from amc_mobile.profile.predict import predict_us
from amc_mobile.profile.profiler import profile
from amc_mobile.sections.profile import ProfileConfig
from tests.fakes.analytic import AnalyticDevice
from tests.profile.networks import residual_network
from tests.profile.test_profiler import truth_us

CONFIG = ProfileConfig(carriers=12, rounds=2, turns=2, runs=9, warmups=1)


def test_the_laws_hold_at_every_width_and_agree_with_the_table():
    traced = residual_network()
    table = profile(traced, AnalyticDevice(), CONFIG, seed=0, min_keep_ratio=0.2, round_to=8)
    for policy in draw(traced.network, 8, 5, 0.2, 8):
        truth = truth_us(traced, policy, AnalyticDevice())
        assert predict_us(table, traced.network, policy.kept) == pytest.approx(truth, rel=5e-3)
    wide = table.widen(traced.network, policy)
    assert predict_us(table, traced.network, wide.kept) == pytest.approx(table.latency_us(traced.network, wide.kept))
    bare = dataclasses.replace(table, evidence={})
    assert predict_us(bare, traced.network, wide.kept) == table.latency_us(traced.network, wide.kept)
    assert np.isfinite(predict_us(table, traced.network, traced.network.full().kept))

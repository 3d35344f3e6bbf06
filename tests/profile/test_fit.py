from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amc_mobile.profile.law import Calibration, Form, RowShape, calibrate, features, fit_row

SHAPE = RowShape("conv", 64, 96, in_varies=True, out_varies=True)
NETWORK_US = np.full(40, 1000.0)


def widths(seed: int = 0, count: int = 40):
    rng = np.random.default_rng(seed)
    return rng.integers(1, 65, count), rng.integers(1, 97, count)


def up(channels, block):
    return np.ceil(np.asarray(channels) / block) * block


@pytest.mark.parametrize("block", [1, 4, 8, 16, 32])
def test_a_staircase_is_recovered(block):
    ins, outs = widths()
    times = 3.0 + 0.1 * up(ins, block) + 0.02 * up(outs, block) + 0.004 * up(ins, block) * up(outs, block)
    law = fit_row(SHAPE, Form(block), features(SHAPE, Form(block), ins, outs), times, NETWORK_US)
    new_ins, new_outs = widths(1)
    expected = 3.0 + 0.1 * up(new_ins, block) + up(new_outs, block) * (0.02 + 0.004 * up(new_ins, block))
    assert law.times_us(new_ins, new_outs) == pytest.approx(expected, rel=1e-9)


def test_thin_layers_have_a_law_of_their_own():
    ins, outs = widths()
    thin = ins < 16
    times = np.where(
        thin, 40.0 * up(outs, 16) / 96 + 2.0 * ins * up(outs, 16) / 96, 5 + 0.01 * up(ins, 16) * up(outs, 16)
    )
    form = Form(16, thin=True)
    errors = [
        np.abs(fit_row(SHAPE, tried, features(SHAPE, tried, ins, outs), times, NETWORK_US).times_us(ins, outs) - times)
        for tried in (form, Form(16))
    ]
    assert errors[0].max() < 0.5 * errors[1].max()


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1e4), min_size=40, max_size=40), st.sampled_from([1, 4, 8, 16, 32]))
def test_laws_without_a_thin_part_never_fall(times, block):
    """Whatever was measured: the search's guarantee rests on it."""
    ins, outs = widths()
    form = Form(block)
    law = fit_row(SHAPE, form, features(SHAPE, form, ins, outs), np.array(times), NETWORK_US)
    grid = np.arange(1, 65)
    assert (np.diff(law.times_us(grid, np.full(64, 50))) >= -1e-9).all()
    assert (np.diff(law.times_us(np.full(96, 30), np.arange(1, 97))) >= -1e-9).all()
    assert (law.times_us(grid, np.full(64, 50)) >= 0).all()


def test_calibration_finds_scale_and_constant_beside_an_outlier():
    sums = np.linspace(500, 5000, 16)
    clock = 120.0 + 1.05 * sums
    clock[5] *= 1.5
    line = calibrate(sums, clock)
    assert line.scale == pytest.approx(1.05, rel=2e-3)
    assert line.constant_us == pytest.approx(120.0, rel=0.05)
    assert line(1000.0) == pytest.approx(1170.0, rel=5e-3)


def test_calibration_of_nothing_is_still_monotone():
    assert calibrate(np.full(5, 10.0), np.full(5, 20.0)) == Calibration(0.0, 2.0)
    falling = calibrate(np.array([1.0, 2.0, 3.0, 4.0]), np.array([40.0, 30.0, 20.0, 10.0]))
    assert falling.scale == 0.0

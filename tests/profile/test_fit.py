from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amc_mobile.profile.law import (
    FORMS,
    Calibration,
    Form,
    RowLaw,
    RowShape,
    admissible,
    calibrate,
    features,
    overhead,
    solve,
)

SHAPE = RowShape("conv", 64, 96, in_varies=True, out_varies=True)
NETWORK_US = np.full(40, 1000.0)


def widths(seed: int = 0, count: int = 40):
    rng = np.random.default_rng(seed)
    return rng.integers(1, 65, count), rng.integers(1, 97, count)


def fitted(form: Form, ins, outs, times) -> RowLaw:
    return RowLaw(SHAPE, form, tuple(solve(features(SHAPE, form, ins, outs), times, NETWORK_US)))


def up(channels, block):
    return np.ceil(np.asarray(channels) / block) * block


@pytest.mark.parametrize("block", [1, 4, 8, 16, 32])
def test_a_staircase_is_recovered(block):
    ins, outs = widths()
    times = 3.0 + 0.1 * up(ins, block) + 0.02 * up(outs, block) + 0.004 * up(ins, block) * up(outs, block)
    law = fitted(Form(block), ins, outs, times)
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
    errors = [np.abs(fitted(tried, ins, outs, times).times_us(ins, outs) - times) for tried in (form, Form(16))]
    assert errors[0].max() < 1e-6 * errors[1].max()


def test_broken_sets_of_blocks_cost_what_they_cost():
    """Four blocks of outputs at once: one block alone is dearer than a fourth of four."""
    ins, outs = widths()
    broken = np.array([0.0, 10.0, 13.0, 17.0])[-(-outs // 8) % 4]
    times = 2.0 + (21.0 * (-(-outs // 8) // 4) + broken) * up(ins, 8) / 64
    exact, plain = (fitted(form, ins, outs, times) for form in (Form(8, "free"), Form(8)))
    assert exact.times_us(ins, outs) == pytest.approx(times, rel=1e-6)
    assert np.abs(plain.times_us(ins, outs) - times).max() > 1.0


def test_threads_that_share_sets_wait_for_a_whole_one():
    """Two threads: one takes the whole set of four blocks, the other the broken one; alone they share it."""
    ins, outs = widths()
    blocks = -(-outs // 8)
    times = 2.0 + np.where(blocks > 4, 21.0 * -(-blocks // 4) / 2, 4.0 + 1.5 * blocks) * up(ins, 8) / 64
    exact = fitted(Form(8, "whole"), ins, outs, times)
    assert exact.times_us(ins, outs) == pytest.approx(times, rel=1e-6)
    for other in (Form(8), Form(32), Form(8, "counted"), Form(8, "free")):
        assert np.abs(fitted(other, ins, outs, times).times_us(ins, outs) - times).max() > 1.0


def test_a_thin_law_needs_thin_layers_and_others():
    form, outs = Form(16, thin=True), np.full(9, 50)
    assert admissible(SHAPE, form, np.array([8] * 4 + [32] * 5), outs)
    assert not admissible(SHAPE, form, np.array([8] * 2 + [32] * 7), outs)
    assert not admissible(SHAPE, form, np.array([8] * 7 + [32] * 2), outs)
    assert admissible(SHAPE, Form(16), np.full(9, 8), outs)
    assert not admissible(SHAPE, Form(16, "free"), np.full(9, 32), outs)
    assert admissible(SHAPE, Form(16, "free"), np.full(12, 32), np.arange(12) * 8 + 8)


def test_what_the_profiler_adds_to_every_node_is_found_beside_an_outlier():
    rng = np.random.default_rng(0)
    nodes, work = rng.integers(80, 140, 16).astype(float), rng.uniform(500, 5000, 16)
    clock = 1.02 * work
    clock[3] *= 1.3
    assert overhead(work + 2.5 * nodes, nodes, clock) == pytest.approx(2.5, rel=1e-2)
    assert overhead(work, nodes, 1.02 * work) == pytest.approx(0.0, abs=1e-3)
    assert overhead(work, np.full(16, 100.0), work + 50.0) == 0.0  # the clock's own constant is none of the nodes'


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1e4), min_size=40, max_size=40), st.sampled_from([1, 4, 8, 16, 32]))
def test_plain_laws_never_fall(times, block):
    """Whatever was measured. Those with thin layers or sets may; the table's prices never do (tabulate.py)."""
    ins, outs = widths()
    form = Form(block)
    law = fitted(form, ins, outs, np.array(times))
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


def test_what_counts_for_more_networks_draws_the_line_to_itself():
    """Twelve networks say one law, four near one place another by 5 %."""
    sums = np.concatenate([np.linspace(500, 5000, 12), [2000.0, 2050.0, 2100.0, 2150.0]])
    near = np.arange(16) >= 12
    clock = 100.0 + sums * np.where(near, 1.05, 1.0)
    equal, weighted = calibrate(sums, clock), calibrate(sums, clock, np.where(near, 4.0, 1.0))
    off = [abs(line(sums[near]) / clock[near] - 1.0).max() for line in (equal, weighted)]
    assert off[1] < 0.6 * off[0]
    assert calibrate(sums, clock, np.full(16, 4.0)) == pytest.approx(equal)


def test_calibration_of_nothing_is_still_monotone():
    assert calibrate(np.full(5, 10.0), np.full(5, 20.0)) == Calibration(0.0, 2.0)
    falling = calibrate(np.array([1.0, 2.0, 3.0, 4.0]), np.array([40.0, 30.0, 20.0, 10.0]))
    assert falling.scale == 0.0


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1e4), min_size=40, max_size=40), st.sampled_from(FORMS))
def test_no_law_is_negative(times, form):
    ins, outs = widths()
    assert (fitted(form, ins, outs, np.array(times)).times_us(*widths(2)) >= 0).all()

"""Laws from a few networks: layers of a kind share one, and each keeps a scale of its own."""

from __future__ import annotations

import numpy as np
import pytest

from amc_mobile.profile.family import Relative, family_laws, proportion
from amc_mobile.profile.law import Calibration, Form, RowShape
from amc_mobile.profile.mapping import RowKey

CLOCK_US = np.array([10_000.0, 6_000.0])  # two networks: full, and three quarters of every width


def pointwise(size: int, ins: int, outs: int, *, in_varies: bool = True) -> RowShape:
    geometry = (1, 1, 1, 1, 0, 0, 0, 0, 1, size, size, size, size)
    return RowShape("conv", ins, outs, in_varies, True, "", geometry)


def depthwise(size: int, channels: int) -> RowShape:
    geometry = (3, 3, 1, 1, 1, 1, 1, 1, channels, size, size, size, size)
    return RowShape("depthwise", channels, channels, True, True, "", geometry)


def truth_us(shape: RowShape, ins, outs, block: int = 1):
    positions = shape.geometry[-1] ** 2
    ins, outs = (np.ceil(np.asarray(channels) / block) * block for channels in (ins, outs))
    if shape.kind == "depthwise":
        return 6e-3 * positions * outs
    return 2e-3 * positions * outs + 1.5e-4 * positions * ins * outs + 4e-3 * ins * outs


def rows(shapes, block: int = 1, scales=None) -> list[Relative]:
    found = []
    for number, shape in enumerate(shapes):
        ins = np.array([shape.in_channels, shape.in_channels * 3 // 4 if shape.in_varies else shape.in_channels])
        outs = np.array([shape.out_channels, shape.out_channels * 3 // 4])
        scale = 1.0 if scales is None else scales[number]
        found.append(
            Relative(RowKey(f"{number}", ""), shape, ins, outs, scale * truth_us(shape, ins, outs, block=block))
        )
    return found


SHAPES = (
    pointwise(112, 32, 64),
    pointwise(56, 64, 128),
    pointwise(28, 256, 256),
    pointwise(14, 512, 512),
    pointwise(7, 1024, 1024),
)


def test_two_networks_tell_what_a_kind_of_layer_costs_at_any_width():
    laws = family_laws(rows(SHAPES), CLOCK_US)
    for number, shape in enumerate(SHAPES):
        ins, outs = np.array([shape.in_channels // 2, shape.in_channels]), np.array([shape.out_channels // 3] * 2)
        assert laws[RowKey(f"{number}", "")].times_us(ins, outs) == pytest.approx(truth_us(shape, ins, outs), rel=1e-6)


def test_a_fixed_input_goes_into_the_terms_that_are_left():
    shapes = (*SHAPES, pointwise(56, 48, 96, in_varies=False))
    law = family_laws(rows(shapes), CLOCK_US)[RowKey("5", "")]
    outs = np.array([20, 60])
    assert law.times_us(np.array([48, 48]), outs) == pytest.approx(truth_us(shapes[5], [48, 48], outs), rel=1e-6)


def test_depthwise_layers_of_any_width_are_one_family_and_show_their_block():
    shapes = (depthwise(112, 32), depthwise(56, 128), depthwise(28, 144), depthwise(14, 304))
    laws = family_laws(rows(shapes, block=16), CLOCK_US)
    assert {law.form for law in laws.values()} == {Form(16)}
    widths = np.array([17, 100])
    assert laws[RowKey("2", "")].times_us(widths, widths) == pytest.approx(
        truth_us(shapes[2], widths, widths, block=16)
    )


def test_each_layer_keeps_a_scale_of_its_own():
    laws = family_laws(rows([*SHAPES, *SHAPES], scales=[1.0] * 5 + [1.2] * 5), CLOCK_US)
    one, other = (laws[RowKey(name, "")].times_us(np.array([300]), np.array([200]))[0] for name in ("3", "8"))
    assert other / one == pytest.approx(1.2)


def test_one_network_is_enough_for_a_law_that_is_never_negative():
    alone = [Relative(row.key, row.shape, row.ins[:1], row.outs[:1], row.times_us[:1]) for row in rows(SHAPES)]
    laws = family_laws(alone, CLOCK_US[:1])
    assert all(min(law.coefficients) >= 0 for law in laws.values())
    half = laws[RowKey("3", "")].times_us(np.array([256]), np.array([256]))
    assert half == pytest.approx(truth_us(SHAPES[3], 256, 256), rel=0.1)


def test_a_few_networks_give_a_scale_and_no_constant():
    assert proportion(np.array([100.0, 200.0]), np.array([110.0, 220.0])) == Calibration(0.0, pytest.approx(1.1))
    assert proportion(np.zeros(2), CLOCK_US) == Calibration(0.0, 1.0)

"""Laws from a few networks: too few to tell a layer's four coefficients apart, enough to tell what its kind costs.

Layers of one kind, kernel and stride run the same kernel on maps of other sizes and widths. A family of them has one
law in physical amounts, t = a + b·inputs + c·outputs + d·MACs + e·weights with no coefficient below zero (depthwise
layers and nodes: t = a + b·outputs + c·channels), and each layer a scale of its own. Channels are rounded up to the
block that predicts best the networks that are left out, one after the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from amc_mobile.profile.law import SIMPLER, Calibration, Floats, Form, Ints, RowLaw, RowShape, in_blocks, solve
from amc_mobile.profile.mapping import RowKey

_BLOCKS = tuple(Form(block) for block in (1, 4, 8, 16, 32))  # the simplest first


@dataclass(frozen=True, slots=True)
class Relative:
    """One row of times (n,) in n networks, with its widths there."""

    key: RowKey
    shape: RowShape
    ins: Ints
    outs: Ints
    times_us: Floats


def family_laws(rows: Sequence[Relative], clock_us: Floats) -> dict[RowKey, RowLaw]:
    """Laws of all rows, which share what a family can share; `clock_us` (n,) are the networks' end-to-end times."""
    families: dict[object, list[Relative]] = {}
    for row in rows:
        shape = row.shape
        likeness = () if shape.node else shape.geometry[:-5]  # kernel, stride, padding; not groups, not the maps' sizes
        families.setdefault((shape.kind, shape.node, likeness), []).append(row)
    return {key: law for family in families.values() for key, law in _laws(family, clock_us).items()}


def proportion(sums_us: Floats, clock_us: Floats) -> Calibration:
    """The scale that brings sums (n,) nearest to the clock (n,), in relative error: a few networks tell no constant."""
    shares = sums_us / clock_us
    square = float(shares @ shares)
    return Calibration(0.0, float(shares.sum()) / square if square > 0 else 1.0)


def _laws(family: Sequence[Relative], clock_us: Floats) -> dict[RowKey, RowLaw]:
    everyone = np.arange(len(clock_us))
    form, least = _BLOCKS[0], np.inf
    for tried in _BLOCKS if len(everyone) > 1 else ():
        if (error := _error(family, tried, clock_us)) * SIMPLER < least:
            form, least = tried, error
    return _fit(family, form, clock_us, everyone)


def _error(family: Sequence[Relative], form: Form, clock_us: Floats) -> float:
    """Sum of |error| of the rows in each network when it is left out, relative to the network's time."""
    total, everyone = 0.0, np.arange(len(clock_us))
    for place in everyone:
        laws = _fit(family, form, clock_us, np.delete(everyone, place))
        here = slice(place, place + 1)
        errors = [laws[row.key].times_us(row.ins[here], row.outs[here]) - row.times_us[here] for row in family]
        total += float(np.abs(errors).sum() / clock_us[place])
    return total


def _fit(family: Sequence[Relative], form: Form, clock_us: Floats, at: Ints) -> dict[RowKey, RowLaw]:
    """The family's law from the networks `at`, given to each of its rows in the row's own scale."""
    clock = clock_us[at]
    columns = [_amounts(row.shape, form, row.ins[at], row.outs[at]) for row in family]
    times = [row.times_us[at] for row in family]
    sizes = np.maximum(np.max(np.concatenate(columns), axis=0), 1e-9)  # MACs are millions, the constant is one
    common = solve(np.concatenate(columns) / sizes, np.concatenate(times), np.tile(clock, len(family))) / sizes
    laws = {}
    for row, column, time in zip(family, columns, times, strict=True):
        expected = column @ common / clock
        norm = float(expected @ expected)
        law = _row_law(row.shape, form, common)
        laws[row.key] = law.scaled(float(expected @ (time / clock)) / norm) if norm > 0 else law
    return laws


def _amounts(shape: RowShape, form: Form, in_channels: Ints, out_channels: Ints) -> Floats:
    """What a family's law is made of, (n, p), at n pairs of widths: numbers of values and products."""
    positions = math.prod(shape.geometry[-2:])
    ins, outs = in_blocks(in_channels, form.block), in_blocks(out_channels, form.block)
    ones = np.ones(len(in_channels))
    if shape.one_width:
        return np.stack([ones, positions * outs, outs], axis=1)
    weights = ins * outs / _groups(shape)
    return np.stack([ones, positions * ins, positions * outs, positions * weights, weights], axis=1)


def _row_law(shape: RowShape, form: Form, common: Floats) -> RowLaw:
    """The family's law at one row's map sizes, in the terms of `law.features`."""
    full = _amounts(shape, form, np.array([shape.in_channels]), np.array([shape.out_channels]))[0] * common
    if shape.one_width:
        by_out = full[1] + full[2]
        found = [full[0], by_out] if shape.out_varies else [full[0] + by_out]
    else:
        constant, by_in, by_out, by_both = full[0], full[1], full[2], full[3] + full[4]
        if not shape.in_varies:
            found = [constant + by_in, by_out + by_both]
        elif not shape.out_varies:
            found = [constant + by_out, by_in + by_both]
        else:
            found = [constant, by_in, by_out, by_both]
    return RowLaw(shape, form, tuple(map(float, found)))


def _groups(shape: RowShape) -> int:
    return shape.geometry[-5] if len(shape.geometry) > 4 else 1

"""Held-out networks: the numbers are those of a table that is known to be right, or wrong by a known amount."""

from __future__ import annotations

import dataclasses

import pytest

from amc_mobile.cost.table import LatencyTable
from amc_mobile.errors import TableError
from amc_mobile.profile.carriers import draw
from amc_mobile.profile.holdout import hold_out
from amc_mobile.profile.profiler import extend, profile
from amc_mobile.profile.variants import Variants
from amc_mobile.sections.profile import ProfileConfig
from tests.fakes import analytic
from tests.fakes.analytic import AnalyticDevice
from tests.profile.networks import residual_network

CONFIG = ProfileConfig(carriers=12, rounds=2, turns=2, runs=9, warmups=1)


@pytest.fixture(scope="module")
def table() -> LatencyTable:
    return profile(residual_network(), AnalyticDevice(), CONFIG, seed=0, min_keep_ratio=0.2, round_to=8)


def fresh(count: int = 6):
    policies = draw(residual_network().network, count, 99, 0.2, 8)
    return {f"fresh {number}": policy for number, policy in enumerate(policies)}


def held(table: LatencyTable, device: AnalyticDevice):
    return hold_out(Variants(residual_network(), device.info()), device, table, fresh(), CONFIG)


def test_a_right_table_is_found_right(table):
    found = held(table, AnalyticDevice())
    assert found.validation.mape < 5e-3
    assert found.validation.macs_affine_mape > 0.02
    assert len(found.validation.points) == len(found.labels) == 6
    assert found.drift == pytest.approx(1.0, abs=1e-3)


def test_another_day_is_taken_out_and_another_law_is_not(table, monkeypatch):
    slow = held(table, AnalyticDevice(drift=lambda _seconds: 1.2))
    assert slow.drift == pytest.approx(1.2, rel=1e-3)
    assert slow.validation.mape < 5e-3
    monkeypatch.setattr(analytic, "BLOCK", 48)
    assert held(table, AnalyticDevice()).validation.mape > 2e-2


def test_further_networks_are_brought_to_the_clock_of_the_table(table):
    """Measured on a device that is 20 % slower that day, they must not move the table."""
    device = AnalyticDevice(drift=lambda _seconds: 1.2)
    more = extend(table, residual_network(), device, fresh(3), CONFIG)
    assert len(more.evidence["further"]) == 1
    assert more.validation.carriers == table.validation.carriers + 3
    assert more.validation.mape < 5e-3
    network = residual_network().network
    for policy in fresh().values():
        assert more.latency_us(network, policy.kept) == pytest.approx(table.latency_us(network, policy.kept), rel=2e-2)


def test_what_was_extended_is_kept_bit_for_bit(table, tmp_path):
    more = extend(table, residual_network(), AnalyticDevice(), fresh(3), CONFIG)
    more.save(tmp_path / "table.json")
    assert LatencyTable.load(tmp_path / "table.json") == more
    again = extend(LatencyTable.load(tmp_path / "table.json"), residual_network(), AnalyticDevice(), fresh(2), CONFIG)
    assert len(again.evidence["further"]) == 2
    assert again.validation.carriers == more.validation.carriers + 2


def test_a_table_without_its_measurements_cannot_be_extended(table):
    bare = dataclasses.replace(table, evidence={**table.evidence, "chunks": [{"round": 0}]})
    with pytest.raises(TableError, match="cannot be fitted again"):
        extend(bare, residual_network(), AnalyticDevice(), fresh(2), CONFIG)
    with pytest.raises(TableError, match="another device"):
        extend(table, residual_network(), AnalyticDevice(model="other"), fresh(2), CONFIG)

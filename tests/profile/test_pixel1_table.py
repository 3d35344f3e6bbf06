"""The shipped table of a real phone (benchmarks/pixel1_logs.py): whole, of the zoo's network, and near the logs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from amc_mobile.cost.table import LatencyTable
from amc_mobile.export.to_onnx import export
from amc_mobile.graph.trace import trace
from amc_mobile.models.zoo import find
from amc_mobile.profile.campaign import SENTINEL
from amc_mobile.profile.fit import errors_of
from amc_mobile.profile.identity import structure_sha256
from amc_mobile.profile.observed import observe
from amc_mobile.profile.predict import original_us, predict_us
from amc_mobile.search.budget import build_walls
from amc_mobile.search.opponents import uniform
from amc_mobile.sections.search import SearchConfig
from amc_mobile.types import Budget

FOLDER = Path(__file__).parents[2] / "latency_tables" / "pixel-1"


@pytest.fixture(scope="module")
def table() -> LatencyTable:
    return LatencyTable.load(FOLDER / "mobilenet_v1--tflite-cpu-fp32-t1.json")


@pytest.fixture(scope="module")
def model():
    entry = find("mobilenet_v1")
    return export(entry.build().eval(), entry.input_shape)


@pytest.fixture(scope="module")
def network(model):
    return trace(model, "mobilenet_v1").network


def test_it_belongs_to_the_network_that_the_zoo_exports(table, model, network):
    table.require(table.device, structure_sha256(model))
    assert {row.layer for row in table.rows} == {layer.name for layer in network.layers}
    assert all(row.is_monotone() for row in table.rows)


def test_its_word_is_near_the_logs(table, network):
    for label, kept in table.evidence["networks"].items():
        logged = table.evidence["measured_us"][label]
        assert table.latency_us(network, kept) == pytest.approx(logged, rel=0.03)
        assert predict_us(table, network, kept) == pytest.approx(logged, rel=0.03)
    assert table.evidence["measured_us"][SENTINEL] == pytest.approx(123_068.0)


def test_it_says_where_it_is_from_and_how_wrong_it_is(table):
    own = table.validation
    table.refuse(0.05)
    assert own.noise_floor < own.mape < own.macs_affine_mape
    assert np.abs(errors_of(own.points)).max() == pytest.approx(own.max_error)
    assert len(own.points) == own.carriers == len(table.evidence["networks"])  # none is spared
    assert "amc-models (MIT)" in table.evidence["source"]
    assert (table.evidence["protocol"]["warmups"], table.evidence["protocol"]["runs"]) == (100, 200)


def test_the_logs_in_it_add_up(table):
    seen, noise_floor = observe(table.evidence)
    assert noise_floor == pytest.approx(table.validation.noise_floor)
    assert sum(seen.rows_us.values()) == pytest.approx(seen.clock_us, rel=0.015)


@pytest.mark.parametrize("share", [0.5, 0.7])
def test_a_search_for_this_phone_lands_on_its_budget(table, network, share):
    limit_us = share * original_us(table, network)
    walls = build_walls(network, [Budget("latency_us", limit_us)], {"": table}, SearchConfig())
    assert 0.97 < walls.cost(uniform(walls)) / limit_us <= 1.0

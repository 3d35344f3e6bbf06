"""The paper's eleven features, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amc_mobile.search.budget import Walls, build_walls
from amc_mobile.search.state import States, representative, touched_layers

from .networks import chain, macs, residual
from .test_budget import Several, several


@pytest.fixture
def walls() -> Walls:
    graph = chain([16, 32, 64], side=16)  # layers: 3->16, 16->32, 32->64 (stride 2), 64->10
    cost = macs(graph)
    return Walls(graph, cost, 0.5 * cost(graph.full().kept), 0.25, 8)


def test_the_representative_is_the_first_consumer() -> None:
    graph = residual(16, [24, 40])  # stem, then (expand, depthwise, project) twice, then the head
    stream, inner, _ = graph.prunable()
    assert representative(graph, stream).name == "layers.1"
    assert representative(graph, inner).name == "layers.3"
    assert [layer.name for layer in touched_layers(graph, inner)] == ["layers.1", "layers.2", "layers.3"]


def test_shape_features_span_zero_to_one(walls: Walls) -> None:
    states = States(walls)
    first, second, third = states([]), states([16]), states([16, 32])
    assert states.features == 11
    # t, n, c, h, w, stride, k of 16->32, of 32->64 with stride 2, of 64->10 on the smaller map
    np.testing.assert_allclose(first[:7], [0, (32 - 10) / 54, 0, 1, 1, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(second[:7], [0.5, 1, 16 / 48, 1, 1, 1, 0], rtol=1e-6)
    np.testing.assert_allclose(third[:7], [1, 0, 1, 0, 0, 0, 0], rtol=1e-6)


def test_flops_are_those_of_every_layer_that_changes(walls: Walls) -> None:
    layers = [9 * 256 * 3 * 16, 9 * 256 * 16 * 32, 9 * 64 * 32 * 64, 9 * 64 * 64 * 10]
    touched = np.array([layers[0] + layers[1], layers[1] + layers[2], layers[2] + layers[3]], float)
    states = States(walls)
    seen = [states([])[7], states([16])[7], states([16, 32])[7]]
    np.testing.assert_allclose(seen, (touched - touched.min()) / np.ptp(touched), rtol=1e-6)


def test_reduced_and_rest_are_exact(walls: Walls) -> None:
    cost, full = walls.cost, walls.full_cost
    state = States(walls)([8, 24])
    reduced, rest, before = state[8:11]
    assert reduced == pytest.approx(1 - cost([8, 24, 64]) / full, rel=1e-6)
    assert rest == pytest.approx((cost([8, 24, 64]) - cost([8, 24, 16])) / full, rel=1e-6)
    assert before == pytest.approx(24 / 32)
    start = States(walls)([])
    assert (start[8], start[10]) == (0.0, 1.0)


def test_a_latency_budget_adds_each_groups_share(walls: Walls) -> None:
    states = States(walls, latency=True)
    alone = np.array([1 - walls.cost(w) / walls.full_cost for w in ([4, 32, 64], [16, 8, 64], [16, 32, 16])])
    seen = [states([])[11], states([16])[11], states([16, 32])[11]]
    np.testing.assert_allclose(seen, alone / alone.max(), rtol=1e-6)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=5), st.data())
def test_every_feature_stays_in_zero_to_one(channels: list[int], data: st.DataObject) -> None:
    graph = residual(16, channels)
    cost = macs(graph)
    walls = Walls(graph, cost, 0.7 * cost(graph.full().kept), 0.2, 8)
    states, decided = States(walls, latency=True), []
    for _ in range(len(walls.grids) + 1):
        state = states(decided)
        assert state.dtype == np.float32
        assert state.shape == (12,)
        assert np.all((state >= 0) & (state <= 1))
        if len(decided) < len(walls.grids):
            decided.append(walls.choose(decided, data.draw(st.floats(0, 1))))


@given(several(), st.data())
@settings(max_examples=40)
def test_every_feature_is_exact_under_several_budgets(problem: Several, data: st.DataObject) -> None:
    walls = build_walls(problem.graph, problem.budgets, problem.tables, problem.config)
    states, decided = States(walls, latency=True), []
    table, full = problem.tables[""], problem.graph.full().kept
    saved = np.array(
        [
            1 - table.latency_us(problem.graph, only_narrow(walls, step)) / table.latency_us(problem.graph, full)
            for step in range(len(walls.groups))
        ]
    )
    for step, grid in enumerate(walls.grids):
        state = states(decided)
        assert np.all((state >= 0) & (state <= 1))
        assert state[8] == pytest.approx(1 - walls.most(decided) / walls.full_cost, abs=1e-6)
        assert state[9] == pytest.approx((walls.most(decided) - walls.least(decided)) / walls.full_cost, abs=1e-6)
        assert state[11] == pytest.approx(saved[step] / saved.max() if saved.max() > 0 else 0.0, abs=1e-5)
        decided.append(data.draw(st.sampled_from(grid)))
    assert np.all((states(decided) >= 0) & (states(decided) <= 1))


def only_narrow(walls: Walls, step: int) -> tuple[int, ...]:
    widths = [*walls.channels[:step], walls.smallest[step], *walls.channels[step + 1 :]]
    return walls.policy(widths).kept

"""What every width costs and saves: differences of the very prices that the budget is counted in."""

from __future__ import annotations

import pytest

from amc_mobile.cost import formulas
from amc_mobile.errors import RunFolderError
from amc_mobile.search.sensitivity import Curve, save
from amc_mobile.search.why import explain, read_curves

from .networks import chain

NETWORK = chain([32, 64])
GRIDS = ((8, 16, 24, 32), (16, 32, 48, 64))
KEPT = (3, 16, 64, 10)
CURVES = {"group1": Curve("group1", (8, 16, 24, 32), (0.4, 0.2, 0.1, 0.0))}


def reasons(kept=KEPT, curves=CURVES):
    return explain(NETWORK, kept, GRIDS, curves, {}, "the winner").groups


def test_alone_is_against_the_unpruned_network():
    first, second = reasons()
    full = NETWORK.full().kept
    assert (first.group, first.channels, first.kept) == ("group1", 32, 16)
    assert first.alone.loss == pytest.approx(0.2)
    assert first.alone.macs == formulas.macs(NETWORK, full) - formulas.macs(NETWORK, (3, 16, 64, 10)) > 0
    assert first.alone.params == formulas.params(NETWORK, full) - formulas.params(NETWORK, (3, 16, 64, 10)) > 0
    assert (second.alone.macs, second.alone.params) == (0, 0)  # whoever keeps all saves nothing


def test_a_step_is_against_the_pruned_network():
    first, second = reasons((3, 16, 48, 10))
    assert (first.narrower.kept, first.wider.kept) == (8, 24)
    now = formulas.macs(NETWORK, (3, 16, 48, 10))
    assert first.narrower.macs == now - formulas.macs(NETWORK, (3, 8, 48, 10)) > 0
    assert first.wider.macs == now - formulas.macs(NETWORK, (3, 24, 48, 10)) < 0
    assert first.narrower.loss == pytest.approx(0.2) and first.wider.loss == pytest.approx(-0.1)
    assert second.wider.kept == 64


def test_the_ends_of_the_grid_have_no_step():
    first, second = reasons((3, 8, 64, 10))
    assert first.narrower is None and first.wider is not None
    assert second.wider is None and second.narrower is not None


def test_a_width_off_the_grid_has_its_neighbours():
    first, _ = reasons((3, 20, 64, 10))
    assert (first.narrower.kept, first.wider.kept) == (16, 24)


def test_what_was_not_measured_is_not_invented():
    for reason in reasons(curves={}):
        assert reason.alone.loss is None and reason.alone.latency_us is None
        assert all(step is None or step.loss is None for step in (reason.wider, reason.narrower))


def test_curves_are_read_back_and_damage_is_told(tmp_path):
    path = tmp_path / "sensitivity.json"
    assert read_curves(path) == {}
    save(path, list(CURVES.values()))
    assert read_curves(path) == CURVES
    path.write_text('{"groups": [1]}', encoding="utf-8")
    with pytest.raises(RunFolderError, match=r"sensitivity\.json is damaged"):
        read_curves(path)

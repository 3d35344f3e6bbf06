from __future__ import annotations

import dataclasses
import itertools
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amc_mobile.cost.table import CarrierPoint, LatencyTable, TableRow, Validation
from amc_mobile.cost.widths import level_grid, width_grid
from amc_mobile.errors import TableError, UnstableError
from amc_mobile.measurements import DeviceInfo
from amc_mobile.types import ChannelGroup, Layer, NetworkGraph, Policy, Span

DEVICE = DeviceInfo("host", "A processor", "Linux", "onnxruntime 1.0", "CPUExecutionProvider", "fp32", 1, "all")
VALIDATION = Validation(18, 0.012, 0.04, -0.001, 0.95, 1.0, 0.008, 0.07, (CarrierPoint(100.0, 101.5),))


def layer(name, kind, before, after, in_group, out_group):
    spans = [() if group is None else (Span(group),) for group in (in_group, out_group)]
    return Layer(
        name, kind, before, after, (3, 3), (1, 1), (1, 1, 1, 1), 1, (8, 8), (8, 8), *spans, f"{name}.weight", None,
        f"{name}.in", f"{name}.out",
    )  # fmt: skip


NETWORK = NetworkGraph(
    "small",
    (1, 3, 8, 8),
    (
        layer("first", "conv", 3, 16, None, 0),
        layer("middle", "depthwise", 16, 16, 0, 0),
        layer("last", "conv", 16, 24, 0, 1),
        layer("classifier", "linear", 24, 10, 1, None),
    ),
    (ChannelGroup(0, "a", 16, ("first",), ("last",), True), ChannelGroup(1, "b", 24, ("last",), ("classifier",), True)),
    (),
)
ROWS = (
    TableRow("first", "", "conv", (3,), (8, 16), ((1.25, 2.5),)),
    TableRow("middle", "", "depthwise", (), (8, 16), ((0.1, 0.30000000000000004),)),
    TableRow("last", "", "conv", (8, 16), (8, 16, 24), ((1.0, 2.0, 3.0), (2.0, 4.0, 6.0))),
    TableRow("last", "Add", "other", (), (8, 24), ((0.5, 0.5),)),
    TableRow("classifier", "", "linear", (8, 24), (10,), ((1 / 3,), (2 / 3,))),
)
TABLE = LatencyTable(
    "small", "ab" * 32, DEVICE, ROWS, 7.0, VALIDATION, {"a": (8, 16), "b": (8, 16, 24)}, {"seed": 3, "date": "today"}
)
kept_widths = st.tuples(st.integers(1, 16), st.integers(1, 24))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "table.json"
    TABLE.save(path)
    return path


def test_prices_add_up():
    assert TABLE.latency_us(NETWORK, (16, 24)) == pytest.approx(7.0 + 2.5 + 0.3 + 6.0 + 0.5 + 2 / 3)
    assert TABLE.layer_us("last", 16, 24) == 6.5


def test_layers_and_rest_are_the_network():
    layers = sum(TABLE.layer_us(one.name, one.in_channels, one.out_channels) for one in NETWORK.layers)
    assert layers + TABLE.rest_us == pytest.approx(TABLE.latency_us(NETWORK, NETWORK.full().kept))


@given(kept_widths, kept_widths)
def test_wider_is_never_cheaper(one, other):
    smaller = tuple(map(min, one, other))
    assert TABLE.latency_us(NETWORK, smaller) <= TABLE.latency_us(NETWORK, one)


@given(kept_widths)
def test_widths_between_cost_the_next_wider_one(kept):
    snapped = (next(width for width in (8, 16) if width >= kept[0]), next(w for w in (8, 16, 24) if w >= kept[1]))
    assert TABLE.latency_us(NETWORK, kept) == TABLE.latency_us(NETWORK, snapped)


@given(kept_widths)
def test_widening_costs_nothing(kept):
    wide = TABLE.widen(NETWORK, Policy(kept))
    assert TABLE.latency_us(NETWORK, wide.kept) == TABLE.latency_us(NETWORK, kept)
    assert all(after >= before for after, before in zip(wide.kept, kept, strict=True))
    assert wide.kept[0] in (8, 16)


def test_answers_stay_right_when_the_network_changes():
    narrow = dataclasses.replace(NETWORK, layers=NETWORK.layers[:2])
    assert TABLE.latency_us(narrow, (16, 24)) == pytest.approx(7.0 + 2.5 + 0.3)
    assert TABLE.latency_us(NETWORK, (8, 8)) == pytest.approx(7.0 + 1.25 + 0.1 + 1.0 + 0.5 + 1 / 3)


def test_round_trip_is_bit_exact(saved: Path):
    again = LatencyTable.load(saved)
    assert again == TABLE
    again.save(saved.with_name("again.json"))
    assert saved.with_name("again.csv").read_bytes() == saved.with_suffix(".csv").read_bytes()


@given(st.lists(st.floats(0, 1e6), min_size=3, max_size=3).map(sorted), st.floats(-1e3, 1e3))
def test_any_float_comes_back(tmp_path_factory: pytest.TempPathFactory, prices: list[float], rest_us: float):
    path = tmp_path_factory.mktemp("table") / "table.json"
    row = TableRow("only", "", "depthwise", (), (1, 2, 3), (tuple(prices),))
    table = dataclasses.replace(TABLE, rows=(row,), rest_us=rest_us)
    table.save(path)
    assert LatencyTable.load(path) == table


@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_every_damaged_byte_is_found(saved: Path, suffix: str):
    path = saved.with_suffix(suffix)
    data = path.read_bytes()
    for place in range(0, len(data) - 1, 37):
        if not data[place : place + 1].isdigit():
            continue
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(TableError):
            LatencyTable.load(saved)


@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_torn_and_missing_files(saved: Path, suffix: str):
    path = saved.with_suffix(suffix)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(TableError, match="damaged"):
        LatencyTable.load(saved)
    path.unlink()
    with pytest.raises(TableError, match="cannot read"):
        LatencyTable.load(saved)


def test_other_json_is_no_table(tmp_path: Path):
    path = tmp_path / "table.json"
    path.write_text('{"some": "thing"}')
    with pytest.raises(TableError, match="no latency table"):
        LatencyTable.load(path)
    path.write_text('{"schema": 99}')
    with pytest.raises(TableError, match="schema 99"):
        LatencyTable.load(path)


def _rewrite(path: Path, **changes):
    """Changes fields of the JSON and brings its checksum up to date, as somebody might who makes tables by hand."""
    from amc_mobile.cost import table_file

    body = json.loads(path.read_text())
    body.pop("sha256")
    body.update(changes)
    path.write_text(json.dumps({**body, "sha256": table_file._digest(body)}))


def test_falling_prices_and_gaps_are_refused(saved: Path):
    import hashlib

    csv = saved.with_suffix(".csv")
    lines = csv.read_text().splitlines(keepends=True)
    for changed, match in (
        ([line.replace(",8,8,0.1", ",8,8,0.9") for line in lines], "falls"),
        ([line for line in lines if ",conv,8,16," not in line], "missing"),
    ):
        assert changed != lines
        csv.write_text("".join(changed))
        _rewrite(saved, csv_sha256=hashlib.sha256(csv.read_bytes()).hexdigest())
        with pytest.raises(TableError, match=match):
            LatencyTable.load(saved)


def test_a_missing_field_is_named(saved: Path):
    body = json.loads(saved.read_text())
    validation = {name: value for name, value in body["validation"].items() if name != "mape"}
    _rewrite(saved, validation=validation)
    with pytest.raises(TableError, match="mape"):
        LatencyTable.load(saved)


def test_foreign_tables_say_what_differs():
    TABLE.require(DEVICE, "ab" * 32)
    with pytest.raises(TableError, match=r"runtime is 'onnxruntime 1.0', here it is 'onnxruntime 2.0'.*amc profile"):
        TABLE.require(dataclasses.replace(DEVICE, runtime="onnxruntime 2.0"), "ab" * 32)
    with pytest.raises(TableError, match=r"another network.*amc profile"):
        TABLE.require(DEVICE, "cd" * 32)
    emulated = dataclasses.replace(TABLE, device=dataclasses.replace(DEVICE, emulated=True))
    with pytest.raises(TableError, match="measured on an emulator"):
        emulated.require(DEVICE, "ab" * 32)
    emulated.require(emulated.device, "ab" * 32)
    TABLE.require(dataclasses.replace(DEVICE, os="Linux 7", details={"cores": "1"}), "ab" * 32)  # not of the key


def test_unknown_layers_and_too_wide_ones():
    foreign = dataclasses.replace(NETWORK, layers=(layer("other", "conv", 3, 16, None, 0),))
    with pytest.raises(TableError, match="no layer other"):
        TABLE.latency_us(foreign, (16, 24))
    with pytest.raises(TableError, match="no layer other"):
        TABLE.layer_us("other", 3, 16)
    with pytest.raises(TableError, match="another network"):
        TABLE.layer_us("last", 16, 25)


def test_a_wrong_table_is_refused_unless_forced():
    TABLE.refuse(0.05)
    wrong = dataclasses.replace(TABLE, validation=dataclasses.replace(VALIDATION, mape=0.073))
    with pytest.raises(TableError, match=r"leave-one-out error is 7.3%, the limit 5.0%.*--force"):
        wrong.refuse(0.05)
    wrong.refuse(0.05, force=True)
    noisy = dataclasses.replace(TABLE, validation=dataclasses.replace(VALIDATION, mape=0.073, noise_floor=0.06))
    with pytest.raises(UnstableError, match=r"the clock itself varied by 6\.0%"):
        noisy.refuse(0.05)


@given(st.integers(1, 4096), st.floats(0.01, 1.0), st.integers(1, 64))
def test_width_grid(channels: int, min_keep_ratio: float, round_to: int):
    grid = width_grid(channels, min_keep_ratio, round_to)
    assert grid[-1] == channels
    assert list(grid) == sorted(set(grid))
    assert grid[0] >= min(channels, max(1, min_keep_ratio * channels - 1e-6))
    steps = {b - a for a, b in itertools.pairwise(grid[:-1])}
    assert len(steps) <= 1
    for step in steps:
        assert round_to % step == 0
        assert all(width % step == 0 for width in grid[:-1])


def test_width_grid_has_no_odd_widths_for_blocked_layouts():
    for channels in range(16, 512):
        assert all(width % 4 == 0 for width in width_grid(channels, 0.2, 8)[:-1])


def test_widths_suit_two_devices_by_their_common_multiple():
    assert width_grid(384, 0.25, math.lcm(8, 12)) == (96, 120, 144, 168, 192, 216, 240, 264, 288, 312, 336, 360, 384)
    assert width_grid(96, 0.5, 24) == (48, 60, 72, 84, 96)


@given(st.integers(1, 5_000_000), st.floats(0.001, 1.0), st.integers(2, 60))
def test_levels_are_few_and_evenly_spaced(units: int, min_keep_ratio: float, levels: int):
    grid = level_grid(units, min_keep_ratio, levels)
    assert len(grid) <= levels
    assert grid[-1] == units
    assert grid[0] == max(1, math.ceil(min_keep_ratio * units - 1e-9))
    gaps = [b - a for a, b in itertools.pairwise(grid)]
    assert all(gap > 0 for gap in gaps)
    assert not gaps or max(gaps) - min(gaps) <= 1

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest

from amc_mobile.cost.table import LatencyTable
from amc_mobile.cost.widths import width_grid
from amc_mobile.device.host import HostDevice
from amc_mobile.errors import DeviceError
from amc_mobile.graph.trace import trace
from amc_mobile.graph.traced import first_channels
from amc_mobile.profile.carriers import draw
from amc_mobile.profile.identity import structure_sha256
from amc_mobile.profile.observed import observe
from amc_mobile.profile.profiler import profile
from amc_mobile.sections.profile import ProfileConfig
from tests.fakes.analytic import OVERHEAD_US, AnalyticDevice
from tests.graph.builders import Builder
from tests.profile.networks import concatenated_network, projected_network, pyramid_network, residual_network

CONFIG = ProfileConfig(carriers=12, rounds=2, turns=2, runs=9, warmups=1)
ARGUMENTS = {"seed": 0, "min_keep_ratio": 0.2, "round_to": 8}


def made(network, device=None, config=CONFIG, **others) -> LatencyTable:
    return profile(network(), device or AnalyticDevice(), config, **{**ARGUMENTS, **others})


def truth_us(traced, policy, device) -> float:
    nodes = device.node_times(traced.slice(first_channels(policy)).SerializeToString())
    return OVERHEAD_US + sum(node.round_us[0] for node in nodes)


def true_errors(table: LatencyTable, traced, device) -> np.ndarray:
    """Errors of the table on new networks of widths worth choosing."""
    policies = [table.widen(traced.network, policy) for policy in draw(traced.network, 12, 77, 0.2, 8)]
    return np.array([table.latency_us(traced.network, p.kept) / truth_us(traced, p, device) - 1 for p in policies])


@pytest.mark.parametrize("network", [residual_network, projected_network, concatenated_network])
def test_the_law_is_recovered(network):
    table = made(network)
    assert table.validation.mape < 4e-3  # one carrier in twelve may be the only one with a width of its kind
    assert np.abs(true_errors(table, network(), AnalyticDevice())).max() < 2e-3
    wide = [row for row in table.evidence["law"]["rows"] if row["layer"] == "main.second" or row["layer"] == "last"]
    assert all(row["block"] == 16 for row in wide if not row["node"])
    assert table.validation.macs_affine_mape > 0.03


def test_a_layer_that_runs_twice_is_priced_once_by_its_sum(tmp_path):
    traced = pyramid_network()
    assert [layer.name for layer in traced.network.layers] == ["stem", "shared", "shared", "classifier"]
    assert [layer.name for layer in traced.network.timed_layers()] == ["stem", "shared", "classifier"]
    table = made(pyramid_network)
    assert np.abs(true_errors(table, traced, AnalyticDevice())).max() < 0.02
    table.save(tmp_path / "table.json")
    again = LatencyTable.load(tmp_path / "table.json")
    assert again.latency_us(traced.network, traced.network.full().kept) == pytest.approx(
        table.latency_us(traced.network, traced.network.full().kept)
    )


def test_the_table_is_as_good_as_it_says_under_noise():
    noise = 0.03
    table = made(residual_network, AnalyticDevice(noise=noise))
    own = table.validation
    assert 0.0 < own.noise_floor < noise
    errors = np.abs(true_errors(table, residual_network(), AnalyticDevice()))
    assert errors.mean() < own.mape + own.noise_floor
    assert own.mape < 2 * noise
    assert own.carriers == CONFIG.carriers + 2
    assert len(own.points) == CONFIG.carriers
    assert np.mean([point.predicted_us / point.measured_us - 1 for point in own.points]) == pytest.approx(own.bias)


def test_layers_thinner_than_a_block_are_nobodys_choice():
    """Their penalty makes 8 channels dearer than 16: the table offers 16 and charges 16."""
    device = AnalyticDevice(thin_penalty=3.0)
    table = made(projected_network, device)
    network = projected_network().network
    stem = next(group for group in network.prunable() if "stem" in group.producers)
    assert 8 in width_grid(stem.channels, 0.2, 8)
    assert table.widths[stem.name] == (16, 32)
    assert np.abs(true_errors(table, projected_network(), device)).max() < 0.02


@pytest.mark.parametrize("network", [residual_network, concatenated_network])
def test_a_wider_group_never_costs_less(network):
    table, traced = made(network, AnalyticDevice(noise=0.3, thin_penalty=2.0)), network()
    rng = np.random.default_rng(0)
    grids = [
        width_grid(group.channels, 0.1, 4) if group.prunable else (group.channels,) for group in traced.network.groups
    ]
    for _ in range(100):
        kept = [int(rng.choice(grid)) for grid in grids]
        for index, grid in enumerate(grids):
            prices = [table.latency_us(traced.network, [*kept[:index], width, *kept[index + 1 :]]) for width in grid]
            assert all(a <= b for a, b in itertools.pairwise(prices))


@pytest.mark.parametrize(("turns", "corrected"), [(1, True), (7, False)])
def test_drift_is_taken_out_by_the_sentinel(turns, corrected):
    """With one turn the clock moves by 27 % meanwhile, with seven to its fivefold: few chunks are of the level."""
    steady, config = made(residual_network), CONFIG.model_copy(update={"turns": turns})
    drifting = made(residual_network, AnalyticDevice(drift=lambda seconds: 1.0 + 0.5 * seconds), config)
    assert drifting.evidence["drift_corrected"] == corrected  # no network is in two steady chunks of seven turns
    assert not steady.evidence["drift_corrected"]
    assert drifting.validation.mape < 0.01
    ratios = [
        drifting.evidence["measured_us"][label] / value for label, value in steady.evidence["measured_us"].items()
    ]
    assert np.ptp(ratios) < 0.03 * np.mean(ratios)


def test_a_clock_that_changes_by_the_second_is_taken_out_by_turns():
    """By half, every two turns or so, somewhere in a turn."""

    def off(turns: int, runs: int) -> np.ndarray:
        restless = AnalyticDevice(drift=lambda seconds: 1.5 if int(seconds / 0.05) % 2 else 1.0)
        config = ProfileConfig(carriers=12, rounds=3, turns=turns, runs=runs, warmups=1)
        measured = made(residual_network, restless, config).evidence["measured_us"]
        ratios = {label: value / measured["full"] for label, value in measured.items()}
        return np.array([ratios[label] / (value / truth["full"]) - 1.0 for label, value in truth.items()])

    truth = made(residual_network).evidence["measured_us"]
    assert np.abs(off(turns=9, runs=7)).max() < 0.01
    assert np.abs(off(turns=1, runs=63)).max() > 0.1


def test_what_a_table_of_former_versions_was_made_from_is_read():
    """Its chunks have one turn, which is no list."""
    evidence = made(residual_network, config=CONFIG.model_copy(update={"turns": 1})).evidence
    seen, noise = observe(evidence)
    samples = [sample for chunk in evidence["chunks"] for sample in chunk["samples"]]
    for sample in samples:
        (sample["values_us"],), (sample["warmups_us"],) = sample["values_us"], sample["warmups_us"]
    again, noise_again = observe(evidence)
    assert noise_again == noise
    assert np.array_equal(again.clock_us, seen.clock_us)
    assert all(np.array_equal(again.rows_us[key], times) for key, times in seen.rows_us.items())


def steadiness(table: LatencyTable) -> list[tuple[int, int, bool, bool]]:
    """(round, chunk, disturbed, used) of every chunk that was measured."""
    parts = table.evidence["steadiness"]
    return [(part["round"], part["chunk"], bool(part["reason"]), part["used"]) for part in parts]


def test_what_drifted_is_measured_again_and_not_used():
    device = AnalyticDevice()
    device.drift = lambda _seconds: 1.4 if device.calls in (5, 7) else 1.0  # two of eight chunks
    table = made(residual_network, device)
    assert device.calls == 10
    assert [part for part in steadiness(table) if part[2]] == [(1, 0, True, False), (1, 2, True, False)]
    assert steadiness(table)[-2:] == [(1, 0, False, True), (1, 2, False, True)]
    assert table.evidence["steadiness"][4]["drift"] == pytest.approx(0.4, abs=0.01)
    assert table.evidence["measured_us"] == pytest.approx(made(residual_network).evidence["measured_us"])


def test_the_mood_of_most_is_the_one_that_counts():
    """It is faster for two chunks only: these are not what the device is like."""
    device = AnalyticDevice()
    device.drift = lambda _seconds: 0.7 if device.calls in (1, 2) else 1.0
    table = made(residual_network, device)
    assert [part[:2] for part in steadiness(table) if part[2]] == [(0, 0), (0, 1)]
    assert table.evidence["measured_us"]["full"] == pytest.approx(
        made(residual_network).evidence["measured_us"]["full"]
    )


def test_a_chunk_beside_busy_programs_is_measured_again_even_if_the_clock_held():
    """A thread's own clock does not see them; its caches and its core's turbo do."""
    busy = AnalyticDevice(load=lambda call: 1.9 if call in (5, 6, 7, 8) else 0.1)
    table = made(residual_network, busy)
    assert [part[0] for part in steadiness(table) if part[2]] == [1, 1, 1, 1]
    assert table.evidence["steadiness"][4]["reason"] == "other programs kept 1.9 cores busy"
    assert busy.calls == 12
    always = made(residual_network, AnalyticDevice(load=lambda _call: 1.9))
    assert not [part for part in steadiness(always) if part[2]]


def test_measuring_again_has_an_end():
    device = AnalyticDevice(drift=lambda seconds: 1.0 + 50 * seconds)
    table = made(residual_network, device)
    assert device.calls == 16
    assert set(table.evidence["measured_us"]) == set(table.evidence["networks"])


def test_a_mood_that_never_came_back_is_corrected():
    """Whatever happens, every network has a time on one clock."""
    device = AnalyticDevice()
    device.drift = lambda _seconds: 1.0 if device.calls <= 5 else 1.25
    table = made(residual_network, device)
    truth = made(residual_network).evidence["measured_us"]
    ratios = [table.evidence["measured_us"][label] / time for label, time in truth.items()]
    assert np.ptp(ratios) < 1e-3
    assert table.validation.mape < 5e-3


@pytest.mark.parametrize("killed_after", [1, 3, 6])
def test_a_killed_profile_goes_on_to_the_same_table(tmp_path: Path, killed_after: int):
    checkpoint = tmp_path / "profile.partial"
    uninterrupted = made(residual_network, AnalyticDevice(noise=0.02))
    dying = AnalyticDevice(noise=0.02, killed_after=killed_after)
    with pytest.raises(KeyboardInterrupt):
        made(residual_network, dying, checkpoint=checkpoint)
    with checkpoint.open("ab") as stream:
        stream.write(b'{"round": 1, "ind')  # the line that the kill tore
    going_on = AnalyticDevice(noise=0.02)
    resumed = made(residual_network, going_on, checkpoint=checkpoint)
    assert resumed == uninterrupted
    assert going_on.calls == 8 - killed_after
    idle = AnalyticDevice(noise=0.02)
    assert made(residual_network, idle, checkpoint=checkpoint) == uninterrupted
    assert idle.calls == 0


@pytest.mark.parametrize("change", [{"model": "another"}, {"seed": 1}, {"network": projected_network}])
def test_a_foreign_checkpoint_is_not_used(tmp_path: Path, change):
    checkpoint = tmp_path / "profile.partial"
    with pytest.raises(KeyboardInterrupt):
        made(residual_network, AnalyticDevice(killed_after=3), checkpoint=checkpoint)
    device = AnalyticDevice(model=change.get("model", "analytic"))
    made(change.get("network", residual_network), device, checkpoint=checkpoint, seed=change.get("seed", 0))
    assert device.calls >= 2 * 3


def test_a_damaged_checkpoint_costs_only_what_is_damaged(tmp_path: Path):
    checkpoint = tmp_path / "profile.partial"
    with pytest.raises(KeyboardInterrupt):
        made(residual_network, AnalyticDevice(killed_after=5), checkpoint=checkpoint)
    lines = checkpoint.read_bytes().split(b"\n")
    lines[4] = lines[4][:50]
    checkpoint.write_bytes(b"\n".join(lines))
    device = AnalyticDevice()
    made(residual_network, device, checkpoint=checkpoint)
    assert device.calls == 8 - 3


def test_progress_ends_at_its_total():
    seen: list[tuple[int, int, str]] = []
    made(residual_network, progress=lambda *step: seen.append(step))
    steps = [done for done, _total, _what in seen]
    assert steps == sorted(steps)
    assert all(done <= total for done, total, _what in seen)
    assert seen[-1][0] >= seen[-1][1] - 1


def test_the_file_says_everything(tmp_path: Path):
    table = made(residual_network)
    table.save(tmp_path / "table.json")
    assert LatencyTable.load(tmp_path / "table.json") == table
    evidence = table.evidence
    assert evidence["protocol"]["runs"] == CONFIG.runs
    assert evidence["tool"].startswith("amc-mobile ")
    assert {"start", "end"} == set(evidence["conditions"])
    assert len(evidence["networks"]) == CONFIG.carriers + 2
    samples = [sample for chunk in evidence["chunks"] for sample in chunk["samples"]]
    assert all(len(sample["values_us"]) == CONFIG.turns for sample in samples)
    assert all(len(turn.split()) >= CONFIG.runs for sample in samples for turn in sample["values_us"])
    assert all(row.layer in {layer.name for layer in residual_network().network.layers} for row in table.rows)


def test_nodes_without_names_are_refused():
    with pytest.raises(DeviceError, match=r"do not name the layers.*--method layers"):
        made(residual_network, AnalyticDevice(names_layers=False))


def test_layers_alone_make_a_table_too():
    """Without a single node's time; what the layers' sum lacks (sums, pools) is left to the calibration."""
    device = AnalyticDevice(names_layers=False)
    table = made(residual_network, device, CONFIG.model_copy(update={"method": "layers"}))
    assert table.evidence["method"] == "layers"
    assert table.validation.mape < 0.01
    assert not [row for row in table.rows if row.node and row.latency_us[-1][-1]]
    assert made(residual_network, AnalyticDevice(gives_nodes=False)).evidence["method"] == "layers"


def test_a_layer_alone_is_timed_once(tmp_path: Path):
    config = CONFIG.model_copy(update={"method": "layers"})
    uninterrupted = AnalyticDevice()
    table = made(residual_network, uninterrupted, config)
    assert len(uninterrupted.alone) == len(set(uninterrupted.alone)) > 20
    with pytest.raises(KeyboardInterrupt):
        made(residual_network, AnalyticDevice(killed_after=15), config, checkpoint=tmp_path / "partial")
    going_on = AnalyticDevice()
    assert made(residual_network, going_on, config, checkpoint=tmp_path / "partial") == table
    assert 0 < len(going_on.alone) < len(uninterrupted.alone)


def test_a_network_that_cannot_be_pruned_is_refused():
    net = Builder(channels=3, size=8)
    traced = trace(net.build(net.conv("input", "only", 3, 16)), "bare")
    with pytest.raises(DeviceError, match="nothing in bare can be pruned"):
        profile(traced, AnalyticDevice(), CONFIG, **ARGUMENTS)


def test_identity_is_the_structure():
    """Trained again, the same network has the same table; of other widths it has not."""

    def identity(channels: int = 32, seed: int = 0, kernel: int = 3) -> str:
        net = Builder(channels=3, size=8, seed=seed)
        data = net.op("Relu", net.conv("input", "one", 3, channels))
        return structure_sha256(net.build(net.op("Relu", net.conv(data, "two", channels, 8, kernel=kernel))))

    assert identity() == identity(seed=5)
    assert len({identity(), identity(channels=40), identity(kernel=1)}) == 3


def test_a_network_has_the_same_identity_before_and_after_it_is_traced(exported):
    model = exported("digits")
    assert structure_sha256(trace(model, "digits").model) == structure_sha256(model)


def test_identity_does_not_depend_on_intermediate_names():
    model = residual_network().model
    renamed = type(model)()
    renamed.CopyFrom(model)
    inputs, outputs = renamed.graph.node[1].input, renamed.graph.node[0].output
    assert inputs[0] == outputs[0]
    inputs[0] = outputs[0] = "a better name"
    renamed.graph.node[0].name = "a better node"
    assert structure_sha256(renamed) == structure_sha256(model)


def test_settings_beyond_the_grid_are_priced_conservatively():
    table, network = made(residual_network), residual_network().network
    tiny = [1 if group.prunable else group.channels for group in network.groups]
    assert table.latency_us(network, tiny) > 0
    coarse = made(residual_network, min_keep_ratio=0.5, round_to=16)
    assert coarse.latency_us(network, tiny) >= table.latency_us(network, tiny)
    assert dataclasses.replace(coarse).widths != table.widths


@pytest.mark.parametrize(
    "device",
    [HostDevice(), HostDevice(2), HostDevice(precision="int8"), HostDevice(batch=3)],
    ids=["fp32", "2 threads", "int8", "batch 3"],
)
def test_the_real_runtime_makes_a_table(device):
    """No times are judged: a table comes out whose layers all have a price, that adds up and never falls."""
    config = ProfileConfig(carriers=6, rounds=1, turns=2, runs=5, warmups=1, min_time_s=0.0)
    traced = concatenated_network()
    table = made(concatenated_network, device, config)
    timed = {row["layer"] for row in table.evidence["law"]["rows"] if not row["node"] and sum(row["coefficients"])}
    assert timed == {layer.name for layer in traced.network.layers}
    assert (table.device.precision, table.device.batch) == (device.precision, device.batch)
    assert table.device.runtime.startswith("onnxruntime")
    for layer in traced.network.layers:
        assert table.layer_us(layer.name, layer.in_channels, layer.out_channels) >= 0.0
    full = traced.network.full().kept
    layers = sum(table.layer_us(one.name, one.in_channels, one.out_channels) for one in traced.network.layers)
    assert table.latency_us(traced.network, full) == pytest.approx(layers + table.rest_us)
    assert table.latency_us(traced.network, full) > 0.0
    assert all(row.is_monotone() for row in table.rows)
    assert table.evidence["measured_us"]["full"] > 0.0


def test_the_real_runtime_times_layers_alone():
    config = ProfileConfig(carriers=6, rounds=1, turns=2, runs=5, warmups=1, min_time_s=0.0, method="layers")
    for device in (HostDevice(), HostDevice(precision="int8", batch=2)):
        table = made(residual_network, device, config)
        prices = [
            table.layer_us(layer.name, *layer.widths(residual_network().network.full().kept))
            for layer in residual_network().network.layers
        ]
        assert min(prices) > 0.0

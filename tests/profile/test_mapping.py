from __future__ import annotations

import onnx
import pytest

from amc_mobile.device.host import HostDevice
from amc_mobile.graph.trace import trace
from amc_mobile.measurements import NodeTime, TimingJob, TimingProtocol
from amc_mobile.profile.mapping import NodeMap, RowKey
from amc_mobile.profile.variants import Variants
from tests.profile.networks import concatenated_network, projected_network, residual_network

QUICK = TimingProtocol(rounds=2, warmups=1, runs=2, min_time_s=0.0, profile_warmups=1, profile_runs=3)


def node(name, op_type, *outputs, times=(1.0,)):
    return NodeTime(name, op_type, outputs, times)


@pytest.mark.parametrize("optimisation", ["all", "extended", "basic"])
@pytest.mark.parametrize("network", [residual_network, projected_network, concatenated_network])
def test_every_layer_finds_its_node_in_the_real_runtime(network, optimisation):
    traced = network()
    job = TimingJob("full", traced.model.SerializeToString(), profile=True)
    nodes = HostDevice(1, optimisation).time_models([job], QUICK)[0].nodes
    mapped = NodeMap(traced.model, traced.network)
    own = [key.layer for key in mapped.keys(nodes) if not key.node]
    assert sorted(own) == sorted(layer.name for layer in traced.network.layers)
    rows = mapped.rows(nodes)
    assert sum(times[1] for times in rows.values()) == pytest.approx(sum(one.round_us[1] for one in nodes))


def test_every_layer_of_an_int8_network_is_found_though_nodes_are_not_called_as_their_tensors():
    """As in a network from PyTorch: only the runtime's own names lead to a layer."""
    model = onnx.ModelProto()
    model.CopyFrom(concatenated_network().model)
    for one in model.graph.node:
        one.name = f"layer.{one.name}"
    traced = trace(model, "renamed")
    device = HostDevice(precision="int8")
    variants = Variants(traced, device.info())
    job = TimingJob("full", variants.model(traced.network.full()), profile=True)
    rows = variants.rows(device.time_models([job], QUICK)[0].nodes)
    own = [key.layer for key in rows if not key.node]
    assert sorted(own) == sorted(layer.name for layer in traced.network.layers)


def _after(traced, layer, count):
    """The tensor `count` nodes behind a layer."""
    name = next(one.output for one in traced.network.layers if one.name == layer)
    for _ in range(count):
        name = next(one.output[0] for one in traced.model.graph.node if name in one.input)
    return name


def test_a_convolution_that_swallowed_the_sum_is_the_branch_nobody_else_accounts_for():
    traced = projected_network()
    total = _after(traced, "shortcut", 2)  # sum and activation
    nodes = [
        node("a", "Conv", _after(traced, "shortcut", 0)),
        node("b", "Conv", _after(traced, "main.first", 1)),
        node("c", "FusedConv", total),
    ]
    owners = NodeMap(traced.model, traced.network).keys(nodes)
    assert [key.layer for key in owners] == ["shortcut", "main.first", "main.second"]
    other_way = [nodes[1], node("d", "Conv", _after(traced, "main.second", 0)), nodes[2]]
    owners = NodeMap(traced.model, traced.network).keys(other_way)
    assert [key.layer for key in owners] == ["main.first", "main.second", "shortcut"]


def test_other_nodes_are_rows_of_their_own_behind_their_layer():
    traced = projected_network()
    nodes = [
        node("copy", "ReorderInput", traced.model.graph.input[0].name, times=(1.0, 2.0)),
        node("sum", "Add", _after(traced, "shortcut", 1), times=(3.0, 4.0)),
        node("again", "Add", _after(traced, "shortcut", 2), times=(5.0, 6.0)),
        node("unknown", "Mystery", "no tensor of the graph", times=(7.0, 8.0)),
    ]
    assert NodeMap(traced.model, traced.network).rows(nodes) == {
        RowKey("", "ReorderInput"): (1.0, 2.0),
        RowKey("main.second", "Add"): (8.0, 10.0),
        RowKey("", "Mystery"): (7.0, 8.0),
    }


def test_models_are_those_of_the_graph():
    traced = residual_network()
    onnx.checker.check_model(traced.model)  # raises for an invalid file
    written = {name for node in traced.model.graph.node for name in node.output}
    assert {layer.output for layer in traced.network.layers} <= written

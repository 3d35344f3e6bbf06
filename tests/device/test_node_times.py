from __future__ import annotations

import json

import onnx
import pytest
from onnx import TensorProto, helper

from amc_mobile.device.node_times import Node, name_uniquely, node_times, original_outputs, parse_profile
from amc_mobile.errors import DeviceError


def model(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "y")]
    return helper.make_model(helper.make_graph(list(nodes), "graph", value[:1], value[1:]))


def node(name: str, op_type: str, inputs: str, outputs: str) -> onnx.NodeProto:
    return helper.make_node(op_type, inputs.split(), outputs.split(), name=name)


def event(name: str, duration: int, op_type: str = "Conv") -> dict:
    return {"cat": "Node", "name": f"{name}_kernel_time", "dur": duration, "args": {"op_name": op_type}}


ORIGINAL = model(
    node("conv_a", "Conv", "x w", "a"),
    node("clip", "Clip", "a", "b"),
    node("conv_c", "Conv", "b w", "c"),
    node("add", "Add", "b c", "d"),
    node("pool", "MaxPool", "d", "y"),
)


def test_names_of_blocked_fused_and_inserted_nodes():
    optimised = model(
        node("r", "ReorderInput", "x", "t0"),
        node("b_nchwc", "Conv", "t0 w", "t1"),
        node("c_nchwc", "Conv", "t1 w", "t2"),
        node("add", "Add", "t1 t2", "t3"),
        node("r2", "ReorderOutput", "t3", "t4"),
        node("pool", "MaxPool", "t4", "y"),
        node("new", "Mystery", "y", "t5"),
    )
    found = original_outputs(ORIGINAL, optimised)
    assert {name: one.outputs for name, one in found.items()} == {
        "r": ("x",),
        "b_nchwc": ("b",),
        "c_nchwc": ("c",),
        "add": ("d",),
        "r2": ("d",),
        "pool": ("y",),
        "new": ("t5",),
    }


def test_names_of_quantised_nodes_in_another_layout():
    """As ONNX Runtime writes them: the tensor has the name of the node, the node a number behind its own."""
    optimised = model(
        node("conv_a_token_1", "QLinearConv", "x w", "conv_a"),
        node("other_token_2", "Transpose", "conv_a", "t"),
        node("conv_c", "QLinearConv", "t w", "c"),
    )
    found = original_outputs(ORIGINAL, optimised)
    assert {name: one.outputs for name, one in found.items()} == {
        "conv_a_token_1": ("a",),
        "other_token_2": ("t",),
        "conv_c": ("c",),
    }


def test_the_median_of_what_follows_the_warmups():
    runs = [event("a", time) for time in (900, 10, 12, 11)] + [{"cat": "Session", "name": "other", "dur": 1}]
    assert parse_profile(json.dumps(runs), warmups=1) == {"a": ("Conv", 11.0)}


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        '[{"cat": "Session"}]',
        "[{",
        "[1]",
        '"x"',
        "7",
        "[" * 100_000,
        '[{"cat": "Node"}]',
        json.dumps([event("a", float("nan"))]),
        json.dumps([event("a", -1)]),
        json.dumps([event("a", 1) | {"args": {"op_name": {}}}]),
        json.dumps([event("a", 1) | {"args": None}]),
    ],
)
def test_a_profile_without_nodes_is_refused(text: str):
    with pytest.raises(DeviceError):
        parse_profile(text, warmups=0)


def test_times_are_joined_to_tensors():
    times = node_times({"a": ("Conv", 3.0), "b": ("Gemm", 4.0)}, {"a": Node("Conv", ("t",))})
    assert [(one.name, one.op_type, one.outputs, one.round_us) for one in times] == [
        ("a", "Conv", ("t",), (3.0,)),
        ("b", "Gemm", (), (4.0,)),
    ]


def test_nodes_get_names_only_where_they_need_them():
    own = model(*ORIGINAL.graph.node)
    assert not name_uniquely(own)
    assert own.graph.node[0].name == "conv_a"
    same = model(node("n", "Relu", "x", "a"), node("n", "Relu", "a", "y"))
    assert name_uniquely(same)
    assert [one.name for one in same.graph.node] == ["a", "y"]

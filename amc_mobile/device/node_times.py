"""Per-node times from ONNX Runtime's profiler, traced back to the tensors of the graph that was handed in.

The runtime rewrites the graph before it runs it: a Conv swallows the Clip behind it, blocked-layout (NCHWc) nodes
write tensors of their own, Reorder nodes appear. Where a node's tensors are the runtime's own, its name tells: an NCHWc
node is called "<tensor of the original graph>_nchwc", a quantised channels-last one "<original node>_token_7",
and what was not renamed keeps the name that it had.
"""

from __future__ import annotations

import json
import math
import re
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx

from amc_mobile.errors import DeviceError, first_line
from amc_mobile.measurements import NodeTime

_EVENT_SUFFIX = "_kernel_time"
_BLOCKED_SUFFIX = "_nchwc"
_TOKEN = re.compile(r"_token_\d+$")


@dataclass(frozen=True, slots=True)
class Node:
    """One node of the optimised graph: what it does and which tensors of the original graph it makes."""

    op_type: str
    outputs: tuple[str, ...]


def original_outputs(original: onnx.ModelProto, optimised: onnx.ModelProto) -> dict[str, Node]:
    """The optimised graph's nodes by name, with outputs named as in the original graph wherever that is known.

    A Reorder node makes the tensor that it copies into another layout.
    """
    known = {name for node in original.graph.node for name in node.output}
    known.update(item.name for item in original.graph.input)
    by_name = {node.name: tuple(node.output) for node in original.graph.node if node.name}
    aliases: dict[str, str] = {}  # the runtime's own tensor -> the original tensor with the same values
    nodes: dict[str, Node] = {}
    for node in optimised.graph.node:
        outputs = tuple(name for name in node.output if name)
        if not set(outputs) <= known:
            outputs = _resolve(node, outputs, known, by_name, aliases)
            aliases.update(zip((name for name in node.output if name), outputs, strict=False))
        nodes[node.name] = Node(node.op_type, outputs)
    return nodes


def _resolve(
    node: onnx.NodeProto,
    outputs: tuple[str, ...],
    known: set[str],
    by_name: Mapping[str, tuple[str, ...]],
    aliases: Mapping[str, str],
) -> tuple[str, ...]:
    stem = node.name.removesuffix(_BLOCKED_SUFFIX)
    if stem != node.name and stem in known:
        return (stem,)
    if node.name in by_name:
        return by_name[node.name]
    if (stem := _TOKEN.sub("", node.name)) != node.name and stem in by_name:
        return by_name[stem]
    if node.op_type.startswith("Reorder") and node.input:
        return (aliases.get(node.input[0], node.input[0]),)
    return outputs


def parse_profile(text: str, warmups: int) -> dict[str, tuple[str, float]]:
    """Op type and typical time in µs of every node in a profile that ONNX Runtime wrote; the first runs are dropped.

    Typical is the mean of the middle half: the profiler writes whole microseconds, of which a median would be one.
    Raises: DeviceError if there are no node times in it.
    """
    op_types: dict[str, str] = {}
    times: dict[str, list[float]] = defaultdict(list)
    try:
        for event in json.loads(text):
            if event.get("cat") == "Node" and event["name"].endswith(_EVENT_SUFFIX):
                name, op_type, us = event["name"].removesuffix(_EVENT_SUFFIX), event["args"]["op_name"], event["dur"]
                if not isinstance(op_type, str) or not 0 <= float(us) < math.inf:
                    raise ValueError(f"{op_type} took {us}")
                op_types[name] = op_type
                times[name].append(float(us))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise DeviceError(
            f"ONNX Runtime's profile is not one ({first_line(error)[:100]}); is the temporary folder's disk full?"
        ) from error
    if not times:
        raise DeviceError("this ONNX Runtime gives no per-node times; use the stock CPU build of onnxruntime")
    return {name: (op_types[name], middle_mean(values[warmups:] or values)) for name, values in times.items()}


def middle_mean(values: Sequence[float]) -> float:
    """The mean of the values between the quartiles: as robust as a median, and finer than whole numbers.

    >>> middle_mean([3.0, 4.0, 4.0, 5.0, 900.0])
    4.333333333333333
    """
    ordered, cut = sorted(values), len(values) // 4
    return statistics.fmean(ordered[cut : len(ordered) - cut])


def node_times(medians: Mapping[str, tuple[str, float]], nodes: Mapping[str, Node]) -> tuple[NodeTime, ...]:
    """One round's times as NodeTime, in the order in which the nodes ran."""
    return tuple(
        NodeTime(name, op_type, nodes[name].outputs if name in nodes else (), (median,))
        for name, (op_type, median) in medians.items()
    )


def name_uniquely(model: onnx.ModelProto) -> bool:
    """Names every node after what it writes, unless each has a name of its own; answers whether that was needed.

    The profiler tells nodes apart by their names only.
    """
    names = [node.name for node in model.graph.node]
    if "" not in names and len(set(names)) == len(names):
        return False
    for node in model.graph.node:
        node.name = next((name for name in node.output if name), node.name)
    return True

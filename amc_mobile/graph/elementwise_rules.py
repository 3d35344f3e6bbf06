"""Element-wise operators: identities that meet must leave together; a per-channel constant carries them."""

from __future__ import annotations

import onnx

from amc_mobile.graph.identities import Lane
from amc_mobile.graph.walk import Walk


def elementwise(walk: Walk, _: int, node: onnx.NodeProto) -> None:
    """Unites the identities of activations that meet, and gives them to the result."""
    rank = len(walk.shapes[node.output[0]])
    result: Lane | None = None
    for name in node.input:
        if name not in walk.lanes:
            continue
        lane = walk.lanes[name]
        axis = lane.axis + rank - len(walk.shapes[name])
        if len(lane.ids) != walk.shapes[node.output[0]][axis]:
            walk.identities.pin(lane.ids, f"{node.op_type} {node.name}: broadcast along its channels")
        elif result is None:
            result = Lane(axis, lane.ids)
        elif result.axis == axis:
            walk.identities.unite(result.ids, lane.ids)
        else:
            walk.identities.pin(lane.ids, f"{node.op_type} {node.name}: channels meet across axes")
            walk.identities.pin(result.ids, f"{node.op_type} {node.name}: channels meet across axes")
    if result is not None:
        check_strangers(walk, node, result, rank)
        walk.lanes[node.output[0]] = result


def check_strangers(walk: Walk, node: onnx.NodeProto, result: Lane, rank: int) -> None:
    """Operands that are constant, or activations of unknown order, along the channel axis."""
    for name in node.input:
        if not name or name in walk.lanes:
            continue
        axis = result.axis - (rank - len(walk.shapes[name]))
        if axis < 0 or walk.shapes[name][axis] == 1:
            continue
        if name in walk.arrays:
            walk.member(name, axis, result.ids)
        else:
            walk.identities.pin(result.ids, f"{node.op_type} {node.name}: meets an unknown order of channels")


def normalise(walk: Walk, _: int, node: onnx.NodeProto) -> None:
    """Batch and instance normalisation: every vector carries the channels."""
    lane = walk.lane(node.input[0], 1, f"{node.op_type} {node.name}")
    for name in node.input[1:]:
        if name in walk.arrays:
            walk.member(name, 0, lane.ids)
        else:
            walk.pin(node.input[0], f"{node.op_type} {node.name}: computed statistics")
    walk.lanes[node.output[0]] = lane

"""Data movement: the very operator is executed on the identities, and counts of channels in the graph are noted."""

from __future__ import annotations

import numpy as np
import onnx

from amc_mobile.graph.equal_parts import balance, unite_columns
from amc_mobile.graph.identities import Lane
from amc_mobile.graph.prepare import attributes
from amc_mobile.graph.walk import Count, Reindex, Walk


def pool(walk: Walk, _: int, node: onnx.NodeProto) -> None:
    """Pools and resizing work on every channel alone."""
    lane = walk.lanes.get(node.input[0])
    if lane is None:
        return
    if lane.axis != 1 or walk.shapes[node.output[0]][1] != len(lane.ids):
        walk.opaque(node, "works along its channels")
        return
    if node.op_type in ("Resize", "Upsample"):
        rank = len(walk.shapes[node.input[0]])
        named = [axis % rank for axis in attributes(node).get("axes", range(rank))]  # of which sizes are given
        for name in node.input[1:]:
            if (
                1 in named
                and name in walk.arrays
                and walk.arrays[name].dtype == np.int64
                and walk.arrays[name].size > 1
            ):
                walk.counts.append(Count(lane.ids, name, named.index(1)))
    walk.lanes[node.output[0]] = lane


def reduce(walk: Walk, _: int, node: onnx.NodeProto) -> None:
    """A reduction over anything but the channels hands them on."""
    lane = walk.lanes.get(node.input[0])
    if lane is None:
        return
    rank = len(walk.shapes[node.input[0]])
    named = axes(walk, node, default=range(rank))
    if lane.axis in {axis % rank for axis in named}:
        walk.opaque(node, "reduces over channels")
        return
    gone = 0 if attributes(node).get("keepdims", 1) else sum(axis % rank < lane.axis for axis in named)
    walk.lanes[node.output[0]] = Lane(lane.axis - gone, lane.ids)


def depth_to_space(walk: Walk, _: int, node: onnx.NodeProto) -> None:
    """Every block of channels becomes the pixels of one channel, and leaves with it."""
    values = attributes(node)
    lane, area = walk.lanes.get(node.input[0]), int(values["blocksize"]) ** 2
    if lane is None or lane.axis != 1:
        walk.opaque(node, "works along its channels")
        return
    crosswise = values.get("mode", b"DCR") == b"CRD"  # channel, then pixel of the block
    blocks = lane.ids.reshape(-1, area).T if crosswise else lane.ids.reshape(area, -1)
    walk.lanes[node.output[0]] = Lane(1, unite_columns(walk.identities, blocks))


def softmax(walk: Walk, _: int, node: onnx.NodeProto) -> None:
    """Over anything but the channels, softmax hands them on."""
    lane = walk.lanes.get(node.input[0])
    axis = int(attributes(node).get("axis", -1))
    if lane is None:
        return
    if axis % len(walk.shapes[node.input[0]]) == lane.axis:
        walk.opaque(node, "works along its channels")
        return
    walk.lanes[node.output[0]] = lane


def transpose(walk: Walk, _: int, node: onnx.NodeProto) -> None:
    """The channel axis moves."""
    lane = walk.lanes.get(node.input[0])
    if lane is not None:
        rank = len(walk.shapes[node.input[0]])
        order = list(attributes(node).get("perm", range(rank - 1, -1, -1)))
        walk.lanes[node.output[0]] = Lane(order.index(lane.axis), lane.ids)


def expand(walk: Walk, _: int, node: onnx.NodeProto) -> None:
    """Broadcasting to a shape that is spelled out."""
    lane = walk.lanes.get(node.input[0])
    if lane is None:
        return
    axis = lane.axis + len(walk.shapes[node.output[0]]) - len(walk.shapes[node.input[0]])
    if walk.shapes[node.output[0]][axis] != len(lane.ids) or node.input[1] not in walk.arrays:
        walk.opaque(node, "broadcast along its channels")
        return
    at = axis - (len(walk.shapes[node.output[0]]) - len(walk.arrays[node.input[1]]))
    if at >= 0 and walk.arrays[node.input[1]][at] > 1:
        walk.counts.append(Count(lane.ids, node.input[1], at))
    walk.lanes[node.output[0]] = Lane(axis, lane.ids)


def concat(walk: Walk, _: int, node: onnx.NodeProto) -> None:
    """Along the channel axis identities stand one after the other; along another they meet."""
    lanes = [walk.lanes.get(name) for name in node.input]
    known = [lane for lane in lanes if lane is not None]
    rank = len(walk.shapes[node.output[0]])
    axis = int(attributes(node)["axis"]) % rank
    if not known:
        return
    if len(known) < len(lanes) or any(lane.axis != known[0].axis for lane in known):
        walk.opaque(node, "joins an unknown order of channels")
        return
    if axis == known[0].axis:
        walk.lanes[node.output[0]] = Lane(axis, np.concatenate([lane.ids for lane in known]))
        return
    for lane in known[1:]:
        walk.identities.unite(known[0].ids, lane.ids)
    walk.lanes[node.output[0]] = known[0]


def split(walk: Walk, _: int, node: onnx.NodeProto) -> None:
    """Parts of the channel axis, each with its own count. Equal parts stay equal: they may be the module's chunks."""
    lane = walk.lanes.get(node.input[0])
    if lane is None:
        return
    axis = int(attributes(node).get("axis", 0)) % len(walk.shapes[node.input[0]])
    if axis != lane.axis:
        for output in node.output:
            walk.lanes[output] = lane
        return
    given = len(node.input) > 1 and node.input[1] in walk.arrays
    if not given and (len(node.input) > 1 or attributes(node).get("split") or len(lane.ids) % len(node.output)):
        walk.opaque(node, "splits channels into parts of unknown or uneven size")
        return
    sizes = walk.arrays[node.input[1]] if given else np.full(len(node.output), len(lane.ids) // len(node.output))
    parts = np.split(lane.ids, np.cumsum(sizes)[:-1])
    if len(set(sizes.tolist())) == 1:
        balance(walk.identities, parts)
    for number, (output, part) in enumerate(zip(node.output, parts, strict=True)):
        if given:
            walk.counts.append(Count(part, node.input[1], number))
        walk.lanes[output] = Lane(axis, part)


def slice_(walk: Walk, _: int, node: onnx.NodeProto) -> None:
    """A piece of the channel axis; its bounds are counts of channels."""
    lane = walk.lanes.get(node.input[0])
    if lane is None:
        return
    if any(name and name not in walk.arrays for name in node.input[1:]) or len(node.input) < 3:
        walk.opaque(node, "its bounds are computed")
        return
    rank = len(walk.shapes[node.input[0]])
    starts, ends = (walk.arrays[name] for name in node.input[1:3])
    named = axes(walk, node, default=range(len(starts)), position=3)
    steps = walk.arrays[node.input[4]] if len(node.input) > 4 and node.input[4] else np.ones(len(starts), np.int64)
    walk.lanes[node.output[0]] = lane
    for number, axis in enumerate(named):
        if axis % rank != lane.axis:
            continue
        length = len(lane.ids)
        start, end, step = slice(int(starts[number]), int(ends[number]), int(steps[number])).indices(length)
        if step != 1:
            del walk.lanes[node.output[0]]
            walk.opaque(node, "strides over channels")
            return
        walk.counts.append(Count(lane.ids[:start], node.input[1], number))
        walk.counts.append(Count(lane.ids[:end], node.input[2], number))
        walk.lanes[node.output[0]] = Lane(lane.axis, lane.ids[start:end])


def pad(walk: Walk, _: int, node: onnx.NodeProto) -> None:
    """Along its channels a pad brings silent newcomers: they are united with those they meet, and leave with them."""
    lane = walk.lanes.get(node.input[0])
    if lane is None:
        return
    if len(node.input) < 2 or node.input[1] not in walk.arrays:
        walk.opaque(node, "its pads are computed")
        return
    rank, pads = len(walk.shapes[node.input[0]]), walk.arrays[node.input[1]]
    named = [axis % rank for axis in axes(walk, node, default=range(rank), position=3)]
    if lane.axis not in named:
        walk.lanes[node.output[0]] = lane
        return
    at = named.index(lane.axis)
    before, after = int(pads[at]), int(pads[at + len(named)])
    mode = attributes(node).get("mode", b"constant")
    if before < 0 or after < 0 or ((before or after) and mode != b"constant"):
        walk.opaque(node, "crops or mirrors channels")
        return
    front, back = walk.identities.fresh(before), walk.identities.fresh(after)
    walk.counts += [Count(front, node.input[1], at), Count(back, node.input[1], at + len(named))]
    walk.lanes[node.output[0]] = Lane(lane.axis, np.concatenate([front, lane.ids, back]))


def gather(walk: Walk, _: int, node: onnx.NodeProto) -> None:
    """Picks by constant positions."""
    lane = walk.lanes.get(node.input[0])
    if lane is None:
        walk.opaque(node, "gathers by a computed index")
        return
    rank = len(walk.shapes[node.input[0]])
    axis = int(attributes(node).get("axis", 0)) % rank
    if node.input[1] not in walk.arrays:
        walk.opaque(node, "gathers by a computed index")
        return
    indices = walk.arrays[node.input[1]]
    if axis != lane.axis:
        shift = indices.ndim - 1 if axis < lane.axis else 0
        walk.lanes[node.output[0]] = Lane(lane.axis + shift, lane.ids)
        return
    if indices.ndim != 1:
        walk.opaque(node, "picks single channels")
        return
    walk.arrays[node.input[1]] = np.where(indices < 0, indices + len(lane.ids), indices)
    walk.reindexes.append(Reindex(lane.ids, node.input[1]))
    walk.lanes[node.output[0]] = Lane(axis, lane.ids[walk.arrays[node.input[1]]])


def axes(walk: Walk, node: onnx.NodeProto, default: range, position: int = 1) -> list[int]:
    """The axes of a node: an attribute in old files, an input in new ones."""
    given = attributes(node).get("axes")
    if given is not None:
        return [int(axis) for axis in given]
    if len(node.input) > position and node.input[position]:
        if node.input[position] not in walk.arrays:
            return list(default)
        return [int(axis) for axis in walk.arrays[node.input[position]].reshape(-1)]
    return list(default)

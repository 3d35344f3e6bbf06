"""Reshape and its kin: the operator itself is executed on the identities; a channel axis may be split into parts."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray

from amc_mobile.graph.equal_parts import unite_columns
from amc_mobile.graph.identities import Ids, Lane
from amc_mobile.graph.walk import Choice, Count, Walk

Shape = tuple[int, ...]


def reshape(walk: Walk, index: int, node: onnx.NodeProto) -> None:
    """Reshape, Flatten, Squeeze, Unsqueeze. One entry of the new shape counts the channels and follows them."""
    lane = walk.lanes.get(node.input[0])
    if lane is None:
        return
    old, new = walk.shapes[node.input[0]], walk.shapes[node.output[0]]
    moved = _moved(walk, index, lane, old, new)
    if moved is None:
        walk.opaque(node, f"splits or merges channels ({list(old)} to {list(new)})")
        return
    if node.op_type == "Reshape":
        if node.input[1] not in walk.arrays:
            walk.opaque(node, "its shape is computed")
            return
        if walk.arrays[node.input[1]][moved.axis] > 0:
            walk.counts.append(Count(moved.ids, node.input[1], moved.axis))
    walk.lanes[node.output[0]] = moved


def _moved(walk: Walk, index: int, lane: Lane, old: Shape, new: Shape) -> Lane | None:
    """The lane after a reshape; None if no axis is the channels' own.

    Where channels come to vary along several axes, as in a channel shuffle (C to parts, C / parts), all parts must lose
    the same columns for the result to be a block again. The longest axis is the one that shrinks; among attention heads
    (C to heads, C / heads) it is the number of heads.
    """
    block = _spread(lane, old, new)
    varying = [axis for axis, length in enumerate(block.shape) if length > 1]
    if not varying:
        return _single(lane, old, new)
    axis = max(varying, key=lambda number: (block.shape[number], number))
    if len(varying) > 1 and index in walk.heads:
        axis = varying[-2]
    columns = unite_columns(walk.identities, np.moveaxis(block, axis, -1).reshape(-1, block.shape[axis]))
    if len(varying) > 1:
        walk.choices.append(Choice(index, columns))
    return Lane(axis, columns)


def _spread(lane: Lane, old: Shape, new: Shape) -> Ids:
    """The identities over the axes of the new shape; length 1 along an axis where nothing varies."""
    before, after = [1] * len(old), [1] * len(new)
    for old_axes, new_axes in segments(old, new):
        if lane.axis in old_axes:
            for axis in old_axes:
                before[axis] = old[axis]
            for axis in new_axes:
                after[axis] = new[axis]
    column = [1] * len(old)
    column[lane.axis] = len(lane.ids)
    block: NDArray[np.int64] = np.broadcast_to(lane.ids.reshape(column), before).reshape(after)
    for axis in range(block.ndim):
        first = np.take(block, [0], axis=axis)
        if (block == first).all():
            block = first
    return block


def _single(lane: Lane, old: Shape, new: Shape) -> Lane | None:
    """A single channel stands along every axis and none: it stays where it was, or goes along with its pixels."""
    if lane.axis < len(new) and new[lane.axis] == len(lane.ids):
        return lane
    mine = next(new_axes for old_axes, new_axes in segments(old, new) if lane.axis in old_axes)
    long = [axis for axis in mine if new[axis] > 1]
    return Lane(long[0], np.repeat(lane.ids[:1], new[long[0]])) if len(long) == 1 else None


def segments(old: Shape, new: Shape) -> list[tuple[range, range]]:
    """The finest division of both shapes into runs of axes with equally many elements: what a reshape keeps apart.

    >>> segments((1, 6, 4, 4), (1, 2, 3, 16))
    [(range(0, 1), range(0, 1)), (range(1, 2), range(1, 3)), (range(2, 4), range(3, 4))]
    """
    found = []
    i = j = 0
    while i < len(old) and j < len(new):
        start = (i, j)
        left, right = old[i], new[j]
        while left != right:
            if left < right:
                i += 1
                left *= old[i]
            else:
                j += 1
                right *= new[j]
        i, j = i + 1, j + 1
        found.append((range(start[0], i), range(start[1], j)))
    if found:  # axes of length one that are left over
        found[-1] = (range(found[-1][0].start, len(old)), range(found[-1][1].start, len(new)))
    return found

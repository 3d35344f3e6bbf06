"""Products of two activations, and others that cost MACs but are no layers of the method.

In attention what is summed over cannot be pruned; the heads beside it can, as whole units.
"""

from __future__ import annotations

import math

import numpy as np
import onnx

from amc_mobile.graph.identities import Lane
from amc_mobile.graph.prepare import attributes
from amc_mobile.graph.walk import RawProduct, Walk

_WHY = "product of two activations"


def product(walk: Walk, node: onnx.NodeProto) -> None:
    """(..., m, k) x (..., k, n): channels along the same leading axis of both meet; those along k are pinned."""
    shapes = [walk.shapes[name] for name in node.input]
    out = walk.shapes[node.output[0]]
    macs = math.prod(out) * shapes[0][-1]
    result = _result(walk, node) if min(map(len, shapes)) > 1 else None
    if result is None:
        walk.opaque(node, _WHY)
        walk.lanes.pop(node.output[0], None)  # a square product looks like what arrives, but is not
        walk.products.append(RawProduct(node.name, macs, np.empty(0, np.int64)))
        return
    walk.lanes[node.output[0]] = result
    walk.products.append(RawProduct(node.name, macs, result.ids))


def einsum(walk: Walk, _: int, node: onnx.NodeProto) -> None:
    """Any product of two activations by letters: pinned, and its MACs are counted."""
    walk.opaque(node, _WHY)
    letters = attributes(node)["equation"].decode().replace(" ", "").partition("->")[0].split(",")
    if len(letters) == 2 and "." not in "".join(letters):
        sizes = {
            letter: length
            for name, word in zip(node.input, letters, strict=True)
            for letter, length in zip(word, walk.shapes[name], strict=True)
        }
        walk.products.append(RawProduct(node.name, math.prod(sizes.values()), np.empty(0, np.int64)))


def conv_transpose(walk: Walk, _: int, node: onnx.NodeProto) -> None:
    """Pinned on both sides; every weight meets every pixel of its input."""
    walk.opaque(node, "transposed convolution")
    if node.input[1] in walk.arrays:
        macs = walk.arrays[node.input[1]].size * math.prod(walk.shapes[node.input[0]][2:])
        walk.products.append(RawProduct(node.name, macs, np.empty(0, np.int64)))


def _result(walk: Walk, node: onnx.NodeProto) -> Lane | None:
    """The lane of the product; None if its channels must be pinned."""
    rank = len(walk.shapes[node.output[0]])
    result: Lane | None = None
    for name, summed in zip(node.input, (rank - 1, rank - 2), strict=True):
        lane = walk.lanes.get(name)
        if lane is None:
            continue
        axis = lane.axis + rank - len(walk.shapes[name])
        if axis == summed:
            walk.heads_found |= {choice.node for choice in walk.choices if np.array_equal(choice.ids, lane.ids)}
            return None
        if result is None:
            result = Lane(axis, lane.ids)
        elif result.axis == axis and len(lane.ids) == len(result.ids):
            walk.identities.unite(result.ids, lane.ids)
        else:
            return None
    return result if result is not None and _fits(walk, node, result) else None


def _fits(walk: Walk, node: onnx.NodeProto, result: Lane) -> bool:
    """Whether all operands either carry these channels or do not vary along a leading axis of channels."""
    rank = len(walk.shapes[node.output[0]])
    if walk.shapes[node.output[0]][result.axis] != len(result.ids):
        return False
    strangers = [name for name in node.input if name not in walk.lanes]
    places = [(walk.shapes[name], result.axis - rank + len(walk.shapes[name])) for name in strangers]
    return result.axis >= rank - 2 or all(at < 0 or shape[at] == 1 for shape, at in places)

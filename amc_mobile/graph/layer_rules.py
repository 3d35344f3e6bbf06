"""Layers: they read the identities on the input axis of their weight and make fresh ones on the output axis."""

from __future__ import annotations

import numpy as np
import onnx

from amc_mobile.graph.equal_parts import unite_columns
from amc_mobile.graph.identities import Ids, Lane
from amc_mobile.graph.prepare import attributes
from amc_mobile.graph.product_rules import product
from amc_mobile.graph.walk import Count, RawLayer, Walk, layer_name


def conv(walk: Walk, index: int, node: onnx.NodeProto) -> None:
    """Dense: reads axis 1, makes axis 0. Depthwise: hands its identities on.

    Grouped otherwise: all conv-groups lose the same columns of their inputs, and of their outputs, so that they stay
    equal. Axis 1 of the weight then carries the columns, and an identity made stands once in every conv-group.
    """
    data, weight = node.input[0], node.input[1]
    if weight not in walk.arrays or data not in walk.shapes or len(walk.shapes[data]) < 3:
        walk.opaque(node, "its weight is computed")
        return
    groups = int(attributes(node).get("group", 1))
    shape, arriving = walk.arrays[weight].shape, walk.lane(data, 1, f"Conv {node.name}").ids
    if groups == 1:
        walk.member(weight, 1, arriving, reads=True)
        leaving, kind = walk.identities.fresh(shape[0]), "conv"
    elif shape[1] == 1 and groups == len(arriving):
        leaving, kind = np.repeat(arriving, shape[0] // groups), "depthwise"
        walk.counts.append(Count(arriving, node=index))
    else:
        columns = unite_columns(walk.identities, arriving.reshape(groups, -1))
        walk.member(weight, 1, columns, reads=True)
        leaving, kind = np.tile(walk.identities.fresh(shape[0] // groups), groups), "conv"
    finish_layer(walk, node, kind, arriving, leaving)


def gemm(walk: Walk, _: int, node: onnx.NodeProto) -> None:
    """A linear layer on rows."""
    values = attributes(node)
    data, weight = node.input[0], node.input[1]
    if weight not in walk.arrays or data not in walk.shapes or values.get("transA", 0):
        walk.opaque(node, "its weight is computed")
        return
    reads = 1 if values.get("transB", 0) else 0
    arriving = walk.lane(data, 1, f"Gemm {node.name}").ids
    walk.member(weight, reads, arriving, reads=True)
    leaving = walk.identities.fresh(walk.arrays[weight].shape[1 - reads])
    if len(node.input) > 2 and node.input[2] in walk.lanes:  # it adds an activation instead of a bias
        added = walk.lane(node.input[2], 1, f"Gemm {node.name}").ids
        walk.identities.pin(np.concatenate([added, leaving]), "added inside of a Gemm")
    finish_layer(walk, node, "linear", arriving, leaving, axis=1 - reads)


def matmul(walk: Walk, _: int, node: onnx.NodeProto) -> None:
    """A linear layer on the last axis of anything, or a product of two activations."""
    data, weight = node.input[0], node.input[1]
    if weight not in walk.arrays or walk.arrays[weight].ndim != 2:
        product(walk, node)
        return
    arriving = walk.lane(data, len(walk.shapes[data]) - 1, f"MatMul {node.name}").ids
    walk.member(weight, 0, arriving, reads=True)
    leaving = walk.identities.fresh(walk.arrays[weight].shape[1])
    finish_layer(walk, node, "linear", arriving, leaving, axis=1)


def finish_layer(walk: Walk, node: onnx.NodeProto, kind: str, arriving: Ids, leaving: Ids, axis: int = 0) -> None:
    """Notes the output side of a layer: weight, bias, the activation it makes, and the layer itself."""
    name = layer_name(node.input[1])
    if name in walk.skip:
        walk.identities.pin(np.concatenate([arriving, leaving]), "skipped by hand")
    for pinned in walk.pinned:
        if pinned.layer == name:
            walk.identities.pin(leaving[list(pinned.outputs)], pinned.reason)
    walk.member(node.input[1], axis, leaving)
    if len(node.input) > 2 and node.input[2] in walk.arrays and walk.arrays[node.input[2]].shape:
        bias = node.input[2]
        if walk.arrays[bias].shape[-1] == len(leaving):
            walk.member(bias, walk.arrays[bias].ndim - 1, leaving)
    out_axis = 1 if node.op_type == "Conv" else len(walk.shapes[node.output[0]]) - 1
    walk.lanes[node.output[0]] = Lane(out_axis, leaving)
    walk.layers.append(RawLayer(node, kind, arriving, leaving))

"""How much activation memory a network needs while it runs, for any policy.

Convention, that of a runtime which executes the nodes in the order of the file and frees what nobody reads any more:
* while a node runs, its inputs and its outputs are both alive, beside whatever later nodes still read;
* the network's outputs stay alive to the end; weights are no activations;
* a reshape copies nothing: its output is its input (`_VIEWS`);
* an element-wise node writes over an input of its own shape and type if it is the last to read it (`_IN_PLACE`), as
  ONNX Runtime does; never over the network's input.
What a node allocates inside itself (im2col, blocked layouts) and fragmentation are left out, and so is a tensor whose
shape or type is not known.

Every moment is linear in the kept channels and no coefficient is negative: the peak never falls when a group grows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from amc_mobile.graph.identities import Lane
from amc_mobile.graph.prepare import Shapes, activations, subgraphs
from amc_mobile.graph.traced import GroupIndex
from amc_mobile.graph.walk import Walk
from amc_mobile.types import ChannelGroup, Moment, Span

_VIEWS = "Reshape Flatten Squeeze Unsqueeze Identity Dropout"
_IN_PLACE = (
    "Relu LeakyRelu PRelu Elu Selu Celu ThresholdedRelu Clip Sigmoid HardSigmoid HardSwish Swish Mish Tanh Erf Gelu "
    "Softplus Softsign Exp Log Sqrt Reciprocal Neg Abs Floor Ceil Round Add Sub Mul Div Pow Min Max Sum Mean"
)

Line = NDArray[np.int64]  # (1 + groups,): fixed bytes, then bytes for each kept channel of every group


Buffer = tuple[str, ...]  # the tensors that use one piece of memory, one after the other or in several shapes


def moments(
    graph: onnx.GraphProto, walk: Walk, index: GroupIndex, groups: Sequence[ChannelGroup]
) -> tuple[Moment, ...]:
    """The moments of which, for some policy, one may be the peak; those that never rise above another are left out."""
    nothing = np.zeros(1 + len(groups), np.int64)
    sizes = _sizes(graph, walk, index, groups)
    nodes, lines = [], []
    for node, buffers in alive_buffers(graph, walk.shapes):
        shares = [np.max([sizes.get(name, nothing) for name in buffer], axis=0) for buffer in buffers]
        nodes.append(node)
        lines.append(np.sum([nothing, *shares], axis=0))
    matrix = np.array(lines, np.int64).reshape(len(lines), 1 + len(groups))
    return tuple(
        Moment(
            node=nodes[row],
            fixed_bytes=int(matrix[row, 0]),
            spans=tuple(Span(group, int(matrix[row, 1 + group])) for group in np.flatnonzero(matrix[row, 1:]).tolist()),
        )
        for row in _undominated(matrix, np.array([group.channels for group in groups], np.int64))
    )


def alive_buffers(graph: onnx.GraphProto, shapes: Shapes) -> list[tuple[str, list[Buffer]]]:
    """For every node its name and the buffers alive while it runs."""
    last, types = _last_reads(graph), _element_types(graph)
    alive: list[Buffer] = [(item.name,) for item in activations(graph)]
    inputs = {item.name for item in activations(graph)}
    found = []
    for number, node in enumerate(graph.node):
        form = shapes.get(node.output[0]), types.get(node.output[0])
        alike = {name for name in node.input if (shapes.get(name), types.get(name)) == form}
        done = [buffer for buffer in alive if all(last.get(name, -1) <= number for name in buffer)]
        if node.op_type in _VIEWS.split():
            home = next((buffer for buffer in alive if node.input[0] in buffer), None)
        elif node.op_type in _IN_PLACE.split():
            home = next((buffer for buffer in done if alike & set(buffer) and not inputs & set(buffer)), None)
        else:
            home = None
        fresh: list[Buffer] = [(output,) for output in node.output[home is not None :] if output]
        alive = [(*buffer, node.output[0]) if buffer == home else buffer for buffer in alive] + fresh
        found.append((node.name or node.output[0], alive))
        alive = [buffer for buffer in alive if any(last.get(name, -1) > number for name in buffer)]
    return found


def _last_reads(graph: onnx.GraphProto) -> dict[str, int]:
    """The number of the last node that reads a tensor; one beyond the last node for the network's outputs."""
    last: dict[str, int] = {}
    for number, node in enumerate(graph.node):
        inside = [name for body in subgraphs(node) for inner in body.node for name in inner.input]
        last.update(dict.fromkeys([*node.input, *inside], number))
    return last | {output.name: len(graph.node) for output in graph.output}


def _element_types(graph: onnx.GraphProto) -> dict[str, int]:
    """The element type of every tensor, as ONNX numbers them."""
    items = [*graph.input, *graph.value_info, *graph.output]
    return {item.name: item.type.tensor_type.elem_type for item in items}


def _sizes(graph: onnx.GraphProto, walk: Walk, index: GroupIndex, groups: Sequence[ChannelGroup]) -> dict[str, Line]:
    """Every activation's bytes."""
    sizes = {}
    for name, kind in _element_types(graph).items():
        if name in walk.shapes and name not in walk.arrays and kind:
            width = onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize
            sizes[name] = width * _elements(walk.shapes[name], walk.lanes.get(name), index, groups)
    return sizes


def _elements(shape: tuple[int, ...], lane: Lane | None, index: GroupIndex, groups: Sequence[ChannelGroup]) -> Line:
    """Elements of one activation. Channels that stand there in part or unevenly often count as if they stayed."""
    line = np.zeros(1 + len(groups), np.int64)
    line[0] = math.prod(shape)
    if lane is None or shape[lane.axis] != len(lane.ids):
        return line
    each = math.prod(shape) // len(lane.ids)
    of_group, of_channel = index.locate(lane.ids)
    for number in np.unique(of_group[of_group >= 0]).tolist():
        times = np.bincount(of_channel[of_group == number], minlength=groups[number].channels)
        if groups[number].prunable and (times == times[0]).all():
            line[1 + number] = each * times[0]
            line[0] -= each * int(times.sum())
    return line


def _undominated(matrix: NDArray[np.int64], channels: NDArray[np.int64]) -> list[int]:
    """The rows, in their order, that exceed every other row for some widths from 1 to `channels`."""
    full = matrix[:, 0] + matrix[:, 1:] @ channels
    kept: list[int] = []
    for row in np.argsort(-full, kind="stable").tolist():
        above = matrix[kept] - matrix[row]
        least = above[:, 0] + np.minimum(above[:, 1:], above[:, 1:] * channels).sum(axis=1)
        if not (least >= 0).any():
            kept.append(row)
    return sorted(kept)

"""Executes a plain ONNX graph on channel identities, operator by operator.

What is not understood pins what arrives, with the operator and the node's name, and is left whole: nothing fails.
The walk collects three things: which identities stand along which axis of which weight (`memberships`), the layers, and
the places in the graph that spell out a number of channels and must follow when channels go (`counts`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx

from amc_mobile.graph.identities import Identities, Ids, Lane
from amc_mobile.graph.prepare import Arrays, Shapes, activations, attributes, subgraphs

# Handed on value by value, whatever the value. An activation's constant operands are checked like those of Add.
ELEMENTWISE = frozenset(
    "Relu LeakyRelu PRelu Elu Selu Celu ThresholdedRelu Clip Sigmoid HardSigmoid HardSwish Swish Mish Tanh Erf Gelu "
    "Softplus Softsign Exp Log Sqrt Reciprocal Neg Abs Floor Ceil Round Sign Cast CastLike Identity Dropout Not Sin Cos "
    "Add Sub Mul Div Pow Min Max Sum Mean Where And Or Greater Less GreaterOrEqual LessOrEqual Equal QuantizeLinear "
    "DequantizeLinear".split()
)
POOLS = frozenset(["MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "Resize", "Upsample"])
REDUCTIONS = frozenset(["ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceL2", "ReduceSumSquare", "ReduceProd"])


@dataclass(frozen=True, slots=True)
class Membership:
    """Identities along one axis of one weight. `reads` marks a consumer: silence there silences the channel."""

    weight: str
    axis: int
    ids: Ids
    reads: bool


@dataclass(frozen=True, slots=True)
class Count:
    """Element `index` of a shape constant (or a node's `group` attribute) is the number of these that stay."""

    ids: Ids
    constant: str = ""
    index: int = 0
    node: int = -1  # of the plain graph, for the `group` attribute


@dataclass(frozen=True, slots=True)
class Reindex:
    """A constant of positions along a pruned axis: positions move up, those of leavers disappear."""

    ids: Ids
    constant: str


@dataclass(frozen=True, slots=True)
class RawLayer:
    """A layer as the walk meets it: everything but the groups."""

    node: onnx.NodeProto
    kind: str
    in_ids: Ids
    out_ids: Ids


@dataclass(slots=True)
class Walk:
    """One execution of the graph. Read `memberships`, `counts`, `reindexes`, `layers` after `run`."""

    model: onnx.ModelProto
    arrays: Arrays
    shapes: Shapes
    skip: frozenset[str] = frozenset()
    identities: Identities = field(default_factory=Identities)
    lanes: dict[str, Lane] = field(default_factory=dict)
    memberships: list[Membership] = field(default_factory=list)
    counts: list[Count] = field(default_factory=list)
    reindexes: list[Reindex] = field(default_factory=list)
    layers: list[RawLayer] = field(default_factory=list)

    def run(self) -> Walk:
        """Walks the whole graph in order and pins the network's outputs."""
        for item in activations(self.model.graph):
            channels = self.shapes[item.name][1] if len(self.shapes[item.name]) > 1 else 1
            self.lanes[item.name] = Lane(1, self.identities.fresh(channels, "the network's input"))
        for index, node in enumerate(self.model.graph.node):
            self._step(index, node)
        for output in self.model.graph.output:
            self._pin(output.name, "the network's output")
        return self

    # ------------------------------------------------------------------------------------------------ bookkeeping

    def _step(self, index: int, node: onnx.NodeProto) -> None:
        for name in (name for graph in subgraphs(node) for inner in graph.node for name in inner.input):
            self._pin(name, f"{node.op_type} {node.name}")
        handler = self._handler(node.op_type)
        if handler is None or any(name and name not in self.shapes for name in [*node.input, *node.output[:1]]):
            self._opaque(node, "not understood")
        else:
            handler(self, index, node)

    @staticmethod
    def _handler(op_type: str) -> Callable[[Walk, int, onnx.NodeProto], None] | None:
        if op_type in ELEMENTWISE:
            return Walk._elementwise
        if op_type in POOLS:
            return Walk._pool
        if op_type in REDUCTIONS:
            return Walk._reduce
        return _HANDLERS.get(op_type)

    def _pin(self, name: str, reason: str) -> None:
        lane = self.lanes.get(name)
        if lane is not None:
            self.identities.pin(lane.ids, reason)

    def _opaque(self, node: onnx.NodeProto, why: str) -> None:
        """Pins what arrives. What leaves has identities again only if the shape shows where they must stand."""
        reason = f"{node.op_type} {node.name}: {why}"
        arriving = [name for name in node.input if name in self.lanes]
        for name in arriving:
            self._pin(name, reason)
        for output in node.output:
            same = [name for name in arriving if self.shapes.get(name) == self.shapes.get(output, ())]
            if same:
                self.lanes[output] = self.lanes[same[0]]

    def _lane(self, name: str, axis: int, reason: str) -> Lane:
        """The lane of an activation along the given axis; pinned newcomers where nothing is known."""
        lane = self.lanes.get(name)
        if lane is not None and lane.axis == axis:
            return lane
        if lane is not None:
            self.identities.pin(lane.ids, reason)
        return Lane(axis, self.identities.fresh(self.shapes[name][axis], f"{reason}: unknown order of channels"))

    def _member(self, weight: str, axis: int, ids: Ids, *, reads: bool = False) -> None:
        for other in self.memberships:  # a weight that is used twice is cut once: whoever shares a place must agree
            if other.weight == weight and other.axis == axis:
                self.identities.unite(other.ids, ids)
        self.memberships.append(Membership(weight, axis, ids, reads))

    # ----------------------------------------------------------------------------------------------------- layers

    def _conv(self, index: int, node: onnx.NodeProto) -> None:
        data, weight = node.input[0], node.input[1]
        if weight not in self.arrays or data not in self.shapes or len(self.shapes[data]) < 3:
            return self._opaque(node, "its weight is computed")
        name, groups = layer_name(weight), int(attributes(node).get("group", 1))  # type: ignore[call-overload]
        shape, arriving = self.arrays[weight].shape, self._lane(data, 1, f"Conv {node.name}").ids
        if groups == 1:
            self._member(weight, 1, arriving, reads=True)
            leaving, kind = self.identities.fresh(shape[0]), "conv"
        elif shape[1] == 1 and groups == len(arriving):
            leaving, kind = np.repeat(arriving, shape[0] // groups), "depthwise"
            self.counts.append(Count(arriving, node=index))
        else:
            reason = f"Conv {node.name}: grouped convolution ({groups} groups)"
            self.identities.pin(arriving, reason)
            leaving, kind = self.identities.fresh(shape[0], reason), "conv"
        self._finish_layer(node, kind, name, arriving, leaving)
        return None

    def _gemm(self, _: int, node: onnx.NodeProto) -> None:
        values = attributes(node)
        data, weight = node.input[0], node.input[1]
        if weight not in self.arrays or data not in self.shapes or values.get("transA", 0):
            return self._opaque(node, "its weight is computed")
        reads = 1 if values.get("transB", 0) else 0
        arriving = self._lane(data, 1, f"Gemm {node.name}").ids
        self._member(weight, reads, arriving, reads=True)
        leaving = self.identities.fresh(self.arrays[weight].shape[1 - reads])
        self._finish_layer(node, "linear", layer_name(weight), arriving, leaving, axis=1 - reads)
        return None

    def _matmul(self, _: int, node: onnx.NodeProto) -> None:
        data, weight = node.input[0], node.input[1]
        if weight not in self.arrays or self.arrays[weight].ndim != 2:
            return self._opaque(node, "product of two activations")
        arriving = self._lane(data, len(self.shapes[data]) - 1, f"MatMul {node.name}").ids
        self._member(weight, 0, arriving, reads=True)
        leaving = self.identities.fresh(self.arrays[weight].shape[1])
        self._finish_layer(node, "linear", layer_name(weight), arriving, leaving, axis=1)
        return None

    def _finish_layer(
        self, node: onnx.NodeProto, kind: str, name: str, arriving: Ids, leaving: Ids, axis: int = 0
    ) -> None:
        if name in self.skip:
            self.identities.pin(np.concatenate([arriving, leaving]), "skipped by hand")
        self._member(node.input[1], axis, leaving)
        if len(node.input) > 2 and node.input[2] in self.arrays and self.arrays[node.input[2]].shape:
            bias = node.input[2]
            if self.arrays[bias].shape[-1] == len(leaving):
                self._member(bias, self.arrays[bias].ndim - 1, leaving)
        out_axis = 1 if node.op_type == "Conv" else len(self.shapes[node.output[0]]) - 1
        self.lanes[node.output[0]] = Lane(out_axis, leaving)
        self.layers.append(RawLayer(node, kind, arriving, leaving))

    # ------------------------------------------------------------------------------------------------ element-wise

    def _elementwise(self, _: int, node: onnx.NodeProto) -> None:
        rank = len(self.shapes[node.output[0]])
        result: Lane | None = None
        for name in node.input:
            if name not in self.lanes:
                continue
            lane = self.lanes[name]
            axis = lane.axis + rank - len(self.shapes[name])
            if len(lane.ids) != self.shapes[node.output[0]][axis]:
                self.identities.pin(lane.ids, f"{node.op_type} {node.name}: broadcast along its channels")
            elif result is None:
                result = Lane(axis, lane.ids)
            elif result.axis == axis:
                self.identities.unite(result.ids, lane.ids)
            else:
                self.identities.pin(lane.ids, f"{node.op_type} {node.name}: channels meet across axes")
                self.identities.pin(result.ids, f"{node.op_type} {node.name}: channels meet across axes")
        if result is not None:
            self._check_strangers(node, result, rank)
            self.lanes[node.output[0]] = result

    def _check_strangers(self, node: onnx.NodeProto, result: Lane, rank: int) -> None:
        """Operands that are constant, or activations of unknown order, along the channel axis."""
        for name in node.input:
            if not name or name in self.lanes:
                continue
            axis = result.axis - (rank - len(self.shapes[name]))
            if axis < 0 or self.shapes[name][axis] == 1:
                continue
            if name in self.arrays:
                self._member(name, axis, result.ids)
            else:
                self.identities.pin(result.ids, f"{node.op_type} {node.name}: meets an unknown order of channels")

    def _normalise(self, _: int, node: onnx.NodeProto) -> None:
        """Batch and instance normalisation: every vector carries the channels."""
        lane = self._lane(node.input[0], 1, f"{node.op_type} {node.name}")
        for name in node.input[1:]:
            if name in self.arrays:
                self._member(name, 0, lane.ids)
            else:
                self._pin(node.input[0], f"{node.op_type} {node.name}: computed statistics")
        self.lanes[node.output[0]] = lane

    # ---------------------------------------------------------------------------------------------- data movement

    def _pool(self, _: int, node: onnx.NodeProto) -> None:
        lane = self.lanes.get(node.input[0])
        if lane is None:
            return
        if lane.axis != 1 or self.shapes[node.output[0]][1] != len(lane.ids):
            return self._opaque(node, "works along its channels")
        if node.op_type in ("Resize", "Upsample"):
            for name in node.input[1:]:
                if name in self.arrays and self.arrays[name].dtype == np.int64 and self.arrays[name].size > 1:
                    self.counts.append(Count(lane.ids, name, 1))
        self.lanes[node.output[0]] = lane

    def _reduce(self, _: int, node: onnx.NodeProto) -> None:
        lane = self.lanes.get(node.input[0])
        if lane is None:
            return
        rank = len(self.shapes[node.input[0]])
        axes = self._axes(node, default=range(rank))
        if lane.axis in {axis % rank for axis in axes}:
            return self._opaque(node, "reduces over channels")
        gone = 0 if attributes(node).get("keepdims", 1) else sum(axis % rank < lane.axis for axis in axes)
        self.lanes[node.output[0]] = Lane(lane.axis - gone, lane.ids)

    def _softmax(self, _: int, node: onnx.NodeProto) -> None:
        lane = self.lanes.get(node.input[0])
        axis = int(attributes(node).get("axis", -1))  # type: ignore[call-overload]
        if lane is None:
            return
        if axis % len(self.shapes[node.input[0]]) == lane.axis:
            return self._opaque(node, "works along its channels")
        self.lanes[node.output[0]] = lane

    def _transpose(self, _: int, node: onnx.NodeProto) -> None:
        lane = self.lanes.get(node.input[0])
        if lane is not None:
            rank = len(self.shapes[node.input[0]])
            order = list(attributes(node).get("perm", range(rank - 1, -1, -1)))  # type: ignore[call-overload]
            self.lanes[node.output[0]] = Lane(order.index(lane.axis), lane.ids)

    def _reshape(self, _: int, node: onnx.NodeProto) -> None:
        """Reshape, Flatten, Squeeze, Unsqueeze: the operator itself is executed on the identities."""
        lane = self.lanes.get(node.input[0])
        if lane is None:
            return
        old, new = self.shapes[node.input[0]], self.shapes[node.output[0]]
        moved = lane_after_reshape(lane, old, new)
        if moved is None:
            return self._opaque(node, f"splits or merges channels ({list(old)} to {list(new)})")
        if node.op_type == "Reshape":
            if node.input[1] not in self.arrays:
                return self._opaque(node, "its shape is computed")
            if self.arrays[node.input[1]][moved.axis] > 0:
                self.counts.append(Count(moved.ids, node.input[1], moved.axis))
        self.lanes[node.output[0]] = moved

    def _expand(self, _: int, node: onnx.NodeProto) -> None:
        lane = self.lanes.get(node.input[0])
        if lane is None:
            return
        axis = lane.axis + len(self.shapes[node.output[0]]) - len(self.shapes[node.input[0]])
        if self.shapes[node.output[0]][axis] != len(lane.ids) or node.input[1] not in self.arrays:
            return self._opaque(node, "broadcast along its channels")
        at = axis - (len(self.shapes[node.output[0]]) - len(self.arrays[node.input[1]]))
        if at >= 0 and self.arrays[node.input[1]][at] > 1:
            self.counts.append(Count(lane.ids, node.input[1], at))
        self.lanes[node.output[0]] = Lane(axis, lane.ids)

    def _concat(self, _: int, node: onnx.NodeProto) -> None:
        lanes = [self.lanes.get(name) for name in node.input]
        known = [lane for lane in lanes if lane is not None]
        rank = len(self.shapes[node.output[0]])
        axis = int(attributes(node)["axis"]) % rank  # type: ignore[call-overload]
        if not known:
            return
        if len(known) < len(lanes) or any(lane.axis != known[0].axis for lane in known):
            return self._opaque(node, "joins an unknown order of channels")
        if axis == known[0].axis:
            self.lanes[node.output[0]] = Lane(axis, np.concatenate([lane.ids for lane in known]))
            return
        for lane in known[1:]:
            self.identities.unite(known[0].ids, lane.ids)
        self.lanes[node.output[0]] = known[0]

    def _split(self, _: int, node: onnx.NodeProto) -> None:
        lane = self.lanes.get(node.input[0])
        if lane is None:
            return
        axis = int(attributes(node).get("axis", 0)) % len(self.shapes[node.input[0]])  # type: ignore[call-overload]
        if axis != lane.axis:
            for output in node.output:
                self.lanes[output] = lane
            return
        if len(node.input) < 2 or node.input[1] not in self.arrays:
            return self._opaque(node, "splits channels into equal parts")
        start = 0
        for number, (output, size) in enumerate(zip(node.output, self.arrays[node.input[1]].tolist(), strict=True)):
            part = lane.ids[start : start + size]
            self.counts.append(Count(part, node.input[1], number))
            self.lanes[output] = Lane(axis, part)
            start += size

    def _slice(self, _: int, node: onnx.NodeProto) -> None:
        lane = self.lanes.get(node.input[0])
        if lane is None:
            return
        if any(name and name not in self.arrays for name in node.input[1:]) or len(node.input) < 3:
            return self._opaque(node, "its bounds are computed")
        rank = len(self.shapes[node.input[0]])
        starts, ends = (self.arrays[name] for name in node.input[1:3])
        axes = self._axes(node, default=range(len(starts)), position=3)
        steps = self.arrays[node.input[4]] if len(node.input) > 4 and node.input[4] else np.ones(len(starts), np.int64)
        self.lanes[node.output[0]] = lane
        for number, axis in enumerate(axes):
            if axis % rank != lane.axis:
                continue
            length = len(lane.ids)
            start, end, step = slice(int(starts[number]), int(ends[number]), int(steps[number])).indices(length)
            if step != 1:
                del self.lanes[node.output[0]]
                return self._opaque(node, "strides over channels")
            self.counts.append(Count(lane.ids[:start], node.input[1], number))
            self.counts.append(Count(lane.ids[:end], node.input[2], number))
            self.lanes[node.output[0]] = Lane(lane.axis, lane.ids[start:end])

    def _pad(self, _: int, node: onnx.NodeProto) -> None:
        """Along its channels a pad brings silent newcomers: they are united with those they meet, and leave with them."""
        lane = self.lanes.get(node.input[0])
        if lane is None:
            return
        if len(node.input) < 2 or node.input[1] not in self.arrays:
            return self._opaque(node, "its pads are computed")
        rank, pads = len(self.shapes[node.input[0]]), self.arrays[node.input[1]]
        axes = [axis % rank for axis in self._axes(node, default=range(rank), position=3)]
        if lane.axis not in axes:
            self.lanes[node.output[0]] = lane
            return
        at = axes.index(lane.axis)
        before, after = int(pads[at]), int(pads[at + len(axes)])
        mode = attributes(node).get("mode", b"constant")
        if before < 0 or after < 0 or ((before or after) and mode != b"constant"):
            return self._opaque(node, "crops or mirrors channels")
        front, back = self.identities.fresh(before), self.identities.fresh(after)
        self.counts += [Count(front, node.input[1], at), Count(back, node.input[1], at + len(axes))]
        self.lanes[node.output[0]] = Lane(lane.axis, np.concatenate([front, lane.ids, back]))

    def _gather(self, _: int, node: onnx.NodeProto) -> None:
        lane = self.lanes.get(node.input[0])
        if lane is None:
            return self._opaque(node, "gathers by a computed index")
        rank = len(self.shapes[node.input[0]])
        axis = int(attributes(node).get("axis", 0)) % rank  # type: ignore[call-overload]
        if node.input[1] not in self.arrays:
            return self._opaque(node, "gathers by a computed index")
        indices = self.arrays[node.input[1]]
        if axis != lane.axis:
            shift = indices.ndim - 1 if axis < lane.axis else 0
            self.lanes[node.output[0]] = Lane(lane.axis + shift, lane.ids)
            return None
        if indices.ndim != 1:
            return self._opaque(node, "picks single channels")
        self.arrays[node.input[1]] = np.where(indices < 0, indices + len(lane.ids), indices)
        self.reindexes.append(Reindex(lane.ids, node.input[1]))
        self.lanes[node.output[0]] = Lane(axis, lane.ids[self.arrays[node.input[1]]])
        return None

    def _axes(self, node: onnx.NodeProto, default: range, position: int = 1) -> list[int]:
        """The axes of a node: an attribute in old files, an input in new ones."""
        given = attributes(node).get("axes")
        if given is not None:
            return [int(axis) for axis in given]  # type: ignore[attr-defined]
        if len(node.input) > position and node.input[position]:
            if node.input[position] not in self.arrays:
                return list(default)
            return [int(axis) for axis in self.arrays[node.input[position]].reshape(-1)]
        return list(default)


def lane_after_reshape(lane: Lane, old: tuple[int, ...], new: tuple[int, ...]) -> Lane | None:
    """Where the identities stand after a reshape; None if they no longer stand along a single axis."""
    column = [1] * len(old)
    column[lane.axis] = len(lane.ids)
    block = np.broadcast_to(lane.ids.reshape(column), old).reshape(new)
    varying = []
    for axis in range(block.ndim):
        first = np.take(block, [0], axis=axis)
        if block.shape[axis] > 1 and not (block == first).all():
            varying.append(axis)
        else:
            block = first
    if len(varying) > 1:
        return None
    if not varying:  # a single channel: it stands where an axis of length one can carry it
        return Lane(lane.axis, lane.ids) if lane.axis < len(new) and new[lane.axis] == len(lane.ids) else None
    return Lane(varying[0], block.reshape(-1))


def layer_name(weight: str) -> str:
    """The layer's dotted PyTorch name, from its weight's name; the weight's own name in a foreign file."""
    return weight.removesuffix(".weight")


_HANDLERS: dict[str, Callable[[Walk, int, onnx.NodeProto], None]] = {
    "Conv": Walk._conv,
    "Gemm": Walk._gemm,
    "MatMul": Walk._matmul,
    "BatchNormalization": Walk._normalise,
    "InstanceNormalization": Walk._normalise,
    "Softmax": Walk._softmax,
    "LogSoftmax": Walk._softmax,
    "Transpose": Walk._transpose,
    "Reshape": Walk._reshape,
    "Flatten": Walk._reshape,
    "Squeeze": Walk._reshape,
    "Unsqueeze": Walk._reshape,
    "Expand": Walk._expand,
    "Concat": Walk._concat,
    "Split": Walk._split,
    "Slice": Walk._slice,
    "Pad": Walk._pad,
    "Gather": Walk._gather,
}

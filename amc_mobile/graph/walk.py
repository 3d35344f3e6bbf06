"""One execution of a plain ONNX graph on channel identities; what each operator does stands in rules.py.

What no rule understands pins what arrives, with the operator and the node's name, and is left whole: nothing fails.
The walk collects three things: which identities stand along which axis of which weight (`memberships`), the layers, and
the places in the graph that spell out a number of channels and must follow when channels go (`counts`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import onnx

from amc_mobile.graph.identities import Identities, Ids, Lane
from amc_mobile.graph.prepare import Arrays, Shapes, activations, subgraphs


@dataclass(frozen=True, slots=True)
class Membership:
    """Identities along one axis of one weight. `reads` marks a consumer: silence there silences the channel."""

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
class Pinned:
    """Outputs of a layer that must stay, whatever the graph says."""

    layer: str
    outputs: tuple[int, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class RawProduct:
    """A node that costs MACs and is no layer; in equal shares those of some channels (none: of nobody)."""

    node: str
    macs: int
    ids: Ids


@dataclass(frozen=True, slots=True)
class Choice:
    """A Reshape that split the channels along several axes, of which it had to choose one that shrinks."""

    node: int
    ids: Ids


@dataclass(frozen=True, slots=True)
class RawLayer:
    """A layer as the walk meets it: everything but the groups."""

    node: onnx.NodeProto
    kind: str
    in_ids: Ids
    out_ids: Ids


Rule = Callable[["Walk", int, onnx.NodeProto], None]  # (walk, index of the node in the graph, node)


@dataclass(slots=True)
class Walk:
    """One execution of the graph. Read `memberships`, `counts`, `reindexes`, `layers`, `products` after `run`.

    If it ends with `heads_found`, a second walk that knows them as `heads` finds more that can be pruned.
    """

    model: onnx.ModelProto
    arrays: Arrays
    shapes: Shapes
    pinned: Sequence[Pinned] = ()
    skip: frozenset[str] = frozenset()  # layers that must stay as they are on both sides
    identities: Identities = field(default_factory=Identities)
    lanes: dict[str, Lane] = field(default_factory=dict)
    memberships: dict[tuple[str, int], Membership] = field(default_factory=dict)  # by weight and axis
    counts: list[Count] = field(default_factory=list)
    reindexes: list[Reindex] = field(default_factory=list)
    layers: list[RawLayer] = field(default_factory=list)
    products: list[RawProduct] = field(default_factory=list)
    choices: list[Choice] = field(default_factory=list)
    heads: frozenset[int] = frozenset()  # Reshapes that split channels into attention heads, known from a first walk
    heads_found: set[int] = field(default_factory=set)

    def run(self, rules: Mapping[str, Rule]) -> Walk:
        """Walks the whole graph in order and pins the network's input and outputs."""
        for item in activations(self.model.graph):
            channels = self.shapes[item.name][1] if len(self.shapes[item.name]) > 1 else 1
            self.lanes[item.name] = Lane(1, self.identities.fresh(channels, "the network's input"))
        for index, node in enumerate(self.model.graph.node):
            self._step(index, node, rules)
        for output in self.model.graph.output:
            self.pin(output.name, "the network's output")
        return self

    def _step(self, index: int, node: onnx.NodeProto, rules: Mapping[str, Rule]) -> None:
        for name in (name for graph in subgraphs(node) for inner in graph.node for name in inner.input):
            self.pin(name, f"{node.op_type} {node.name}: read inside its body")
        rule = rules.get(node.op_type)
        if rule is None or any(name and name not in self.shapes for name in [*node.input, *node.output[:1]]):
            self.opaque(node, "not understood")
        else:
            rule(self, index, node)

    def pin(self, name: str, reason: str) -> None:
        """The channels of this activation must stay."""
        lane = self.lanes.get(name)
        if lane is not None:
            self.identities.pin(lane.ids, reason)

    def opaque(self, node: onnx.NodeProto, why: str) -> None:
        """Pins what arrives. What leaves has identities again only if the shape shows where they must stand."""
        reason = f"{node.op_type} {node.name}: {why}"
        arriving = [name for name in node.input if name in self.lanes]
        for name in arriving:
            self.pin(name, reason)
        for output in node.output:
            same = [name for name in arriving if self.shapes.get(name) == self.shapes.get(output, ())]
            if same:
                self.lanes[output] = self.lanes[same[0]]

    def lane(self, name: str, axis: int, reason: str) -> Lane:
        """The lane of an activation along the given axis; pinned newcomers where nothing is known."""
        lane = self.lanes.get(name)
        if lane is not None and lane.axis == axis:
            return lane
        if lane is not None:
            self.identities.pin(lane.ids, reason)
        return Lane(axis, self.identities.fresh(self.shapes[name][axis], f"{reason}: unknown order of channels"))

    def member(self, weight: str, axis: int, ids: Ids, *, reads: bool = False) -> None:
        """Notes that these identities stand along an axis of a weight."""
        known = self.memberships.get((weight, axis))
        if known is not None:  # a weight that is used twice is cut once: whoever shares a place must agree
            self.identities.unite(known.ids, ids)
            reads = reads or known.reads
        self.memberships[weight, axis] = Membership(ids, reads)


def layer_name(weight: str) -> str:
    """The layer's dotted PyTorch name, from its weight's name; the weight's own name in a foreign file."""
    return weight.removesuffix(".weight")

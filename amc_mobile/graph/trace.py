"""From an ONNX file to layers and channel groups."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from amc_mobile.errors import GraphError
from amc_mobile.graph.identities import Ids
from amc_mobile.graph.liveness import moments
from amc_mobile.graph.prepare import Arrays, Shapes, activations, attributes, note_of, prepare, without_weights
from amc_mobile.graph.rules import RULES
from amc_mobile.graph.traced import AxisMap, GroupIndex, TracedGraph
from amc_mobile.graph.walk import Pinned, RawLayer, RawProduct, Walk, layer_name
from amc_mobile.types import AxisSpans, ChannelGroup, Layer, LayerKind, NetworkGraph, Product, Span, WeightTensor


def trace(model: onnx.ModelProto, name: str, skip: Sequence[str] = ()) -> TracedGraph:
    """The network with its channel groups, found by executing the graph on channel identities.

    `skip` names layers whose width must stay as it is. Nothing fails to trace: what is not understood is pinned, with
    the reason. So are outputs of layers that the file's metadata "amc.pinned" lists, JSON [[layer, outputs, reason]].
    Raises: GraphError for a damaged file, several inputs, or an unknown name in `skip`.
    """
    plain, arrays, shapes = prepare(model)
    walk = Walk(plain, arrays, shapes, _pinned(model), frozenset(skip)).run(RULES)
    if walk.heads_found:
        walk = Walk(plain, arrays, shapes, _pinned(model), frozenset(skip), heads=frozenset(walk.heads_found)).run(
            RULES
        )
    names = [layer_name(raw.node.input[1]) for raw in walk.layers]
    unknown = set(skip) - set(names)
    if unknown:
        raise GraphError(f"no layer is called {sorted(unknown)[0]}; type `amc graph {name}` to see their names")
    index, groups = _groups(walk)
    axes = _axis_maps(walk, index)
    tensors = tuple(_tensors(plain, arrays, axes))
    network = NetworkGraph(
        name=name,
        input_shape=shapes[activations(plain.graph)[0].name],
        layers=tuple(_layer(raw, index, arrays, shapes) for raw in walk.layers),
        groups=groups,
        tensors=tensors,
        products=tuple(_product(raw, index) for raw in walk.products),
        overhead_bytes=_file_bytes(plain, arrays) - sum(t.element_bytes * math.prod(t.shape) for t in tensors),
        moments=moments(plain.graph, walk, index, groups),
    )
    return TracedGraph(plain, network, arrays, axes, index, walk=walk)


def _pinned(model: onnx.ModelProto) -> list[Pinned]:
    return [Pinned(layer, tuple(outputs), reason) for layer, outputs, reason in note_of(model, "amc.pinned") or []]


def _groups(walk: Walk) -> tuple[GroupIndex, tuple[ChannelGroup, ...]]:
    """Identities that stand at the same places form a group; inside it, channels are numbered by age."""
    places: defaultdict[int, list[tuple[tuple[str, int], int]]] = defaultdict(list)
    for place, member in walk.memberships.items():
        roots, counts = np.unique(walk.identities.roots(member.ids), return_counts=True)
        for root, count in zip(roots.tolist(), counts.tolist(), strict=True):
            places[root].append((place, count))
    kinds: defaultdict[tuple[object, str], list[int]] = defaultdict(list)
    for root in sorted(places):
        kinds[tuple(places[root]), walk.identities.reason(root)].append(root)
    index = _index(walk, list(kinds.values()))
    made, read = _layers_by_group(walk, index, "out_ids"), _layers_by_group(walk, index, "in_ids")
    groups = []
    for number, ((_, reason), members) in enumerate(kinds.items()):
        producers, consumers = tuple(made[number]), tuple(read[number])
        why = reason or _why_pointless(producers, consumers, len(members), places[members[0]][0][1])
        title = producers[0] if producers else f"channels read by {consumers[0]}" if consumers else f"group {number}"
        groups.append(ChannelGroup(number, title, len(members), producers, consumers, not why, why))
    return index, tuple(groups)


def _index(walk: Walk, groups: Sequence[Sequence[int]]) -> GroupIndex:
    """Where each root of every group stands."""
    group_of, channel_of = (np.full(walk.identities.count, blank, np.int64) for blank in (-1, 0))
    for number, members in enumerate(groups):
        group_of[members], channel_of[members] = number, np.arange(len(members))
    return GroupIndex(walk.identities, group_of, channel_of)


def _why_pointless(producers: tuple[str, ...], consumers: tuple[str, ...], channels: int, places: int) -> str:
    if not producers:
        return "no layer makes these channels"
    if not consumers:
        return "no layer reads these channels"
    if channels > 1:
        return ""
    return "a single channel" if places == 1 else f"its {places} channels can only leave together"


def _layers_by_group(walk: Walk, index: GroupIndex, side: str) -> Mapping[int, Mapping[str, None]]:
    """For every group the dense layers that make it (`out_ids`) or read it (`in_ids`), in order of execution."""
    found: defaultdict[int, dict[str, None]] = defaultdict(dict)
    for raw in walk.layers:
        if raw.kind != "depthwise":
            for group in np.unique(index.locate(getattr(raw, side))[0]).tolist():
                found[group][layer_name(raw.node.input[1])] = None
    return found


def _axis_maps(walk: Walk, index: GroupIndex) -> dict[str, dict[int, AxisMap]]:
    axes: defaultdict[str, dict[int, AxisMap]] = defaultdict(dict)
    for (weight, axis), member in walk.memberships.items():
        axes[weight][axis] = AxisMap(*index.locate(member.ids), member.reads)
    return dict(axes)


def _product(raw: RawProduct, index: GroupIndex) -> Product:
    group, channel = index.locate(raw.ids)
    if not len(group) or (group < 0).any():
        return Product(raw.node, raw.macs)
    each = raw.macs // len(group)
    spans = _spans_of(group, channel)
    return Product(raw.node, 0, tuple(Span(span.group, span.positions * each) for span in spans))


def _spans(ids: Ids, index: GroupIndex) -> AxisSpans:
    return _spans_of(*index.locate(ids))


def _layer(raw: RawLayer, index: GroupIndex, arrays: Arrays, shapes: Shapes) -> Layer:
    node, values = raw.node, attributes(raw.node)
    weight = arrays[node.input[1]]
    spatial = weight.shape[2:] if node.op_type == "Conv" else ()
    window = len(spatial)
    pads = _pads(node, values, shapes, weight.shape, window)
    kind: LayerKind = "conv" if raw.kind == "conv" else "depthwise" if raw.kind == "depthwise" else "linear"
    return Layer(
        name=layer_name(node.input[1]),
        kind=kind,
        in_channels=len(raw.in_ids),
        out_channels=len(raw.out_ids),
        kernel=_pair(spatial),
        stride=_pair(values.get("strides", (1,) * window)),
        padding=pads,
        groups=int(values.get("group", 1)),
        in_hw=_area(shapes[node.input[0]], node.op_type),
        out_hw=_area(shapes[node.output[0]], node.op_type),
        in_spans=_spans(raw.in_ids, index),
        out_spans=_spans(raw.out_ids, index),
        weight=node.input[1],
        bias=node.input[2] if len(node.input) > 2 and node.input[2] in arrays else None,
        input=node.input[0],
        output=node.output[0],
    )


def _pads(
    node: onnx.NodeProto, values: dict[str, Any], shapes: Shapes, weight: tuple[int, ...], window: int
) -> tuple[int, int, int, int]:
    """(top, left, bottom, right); SAME padding is spelled out. Zero for a linear layer and 1-D convolutions."""
    if window != 2:
        return (0, 0, 0, 0)
    mode = values.get("auto_pad", b"NOTSET")
    if mode in (b"NOTSET", b"VALID"):
        top, left, bottom, right = (int(pad) for pad in values.get("pads", (0, 0, 0, 0)))
        return (top, left, bottom, right)
    strides, dilations = _pair(values.get("strides", (1, 1))), _pair(values.get("dilations", (1, 1)))
    totals = []
    for axis in (0, 1):
        reach = (weight[2 + axis] - 1) * dilations[axis] + 1
        size, out = shapes[node.input[0]][2 + axis], shapes[node.output[0]][2 + axis]
        totals.append(max(0, (out - 1) * strides[axis] + reach - size))
    first = [total - total // 2 if mode == b"SAME_LOWER" else total // 2 for total in totals]
    return (first[0], first[1], totals[0] - first[0], totals[1] - first[1])


def _pair(values: Sequence[int]) -> tuple[int, int]:
    numbers = [int(value) for value in values]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else (1, numbers[0]) if numbers else (1, 1)


def _area(shape: tuple[int, ...], op_type: str) -> tuple[int, int]:
    """Height and width of the map; for a linear layer the number of rows it is applied to, and 1."""
    if op_type == "Conv":
        return _pair(shape[2:])
    return (int(np.prod(shape[:-1], dtype=np.int64)), 1)


def _tensors(model: onnx.ModelProto, arrays: Arrays, axes: Mapping[str, Mapping[int, AxisMap]]) -> list[WeightTensor]:
    buffers = {name for node in model.graph.node if node.op_type == "BatchNormalization" for name in node.input[3:5]}
    tensors = []
    for name, array in arrays.items():
        if array.ndim and np.issubdtype(array.dtype, np.floating):
            spans = tuple(_axis_spans(axes.get(name, {}).get(axis)) for axis in range(array.ndim))
            tensors.append(WeightTensor(name, array.shape, spans, name in buffers, array.dtype.itemsize))
    return tensors


def _file_bytes(plain: onnx.ModelProto, arrays: Arrays) -> int:
    """Exact size of the serialised file, without serialising its weights."""
    skeleton = without_weights(plain)
    before: int = skeleton.graph.ByteSize()
    after = before
    for name, array in arrays.items():
        header: int = onnx.TensorProto(name=name, dims=array.shape, data_type=onnx.TensorProto.FLOAT).ByteSize()
        after += _field_bytes(header + _field_bytes(array.nbytes))
    size: int = skeleton.ByteSize()
    return size - _field_bytes(before) + _field_bytes(after)


def _field_bytes(length: int) -> int:
    """Size of a protobuf field that holds `length` bytes: its tag, the length as a varint, and the bytes."""
    return 1 + max(1, (length.bit_length() + 6) // 7) + length


def _axis_spans(axis: AxisMap | None) -> AxisSpans:
    return () if axis is None else _spans_of(axis.group, axis.channel)


def _spans_of(group: Ids, channel: Ids) -> AxisSpans:
    spans = []
    for number in np.unique(group).tolist():
        places = group == number
        spans.append(Span(number, int(places.sum()) // len(np.unique(channel[places]))))
    return tuple(spans)


def load(data: bytes, source: str) -> onnx.ModelProto:
    """The model in a file's bytes. Raises: GraphError naming the source."""
    try:
        model = onnx.load_model_from_string(data)
        for stored in model.graph.initializer[:1]:  # weights kept in a second file fail here
            numpy_helper.to_array(stored)
    except Exception as error:
        raise GraphError(
            f"{source} cannot be read as ONNX ({type(error).__name__}); export it with its weights inside"
        ) from error
    return model

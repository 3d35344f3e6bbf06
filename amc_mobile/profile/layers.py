"""Every layer as a model of its own: for devices that do not tell the time of a node inside a network.

A layer alone lacks what surrounds it (layouts, warm caches, sums), so that these times are wrong as they are; their
calibration on whole networks, the same as that of the times in place, brings them to the clock (LATENCY: isolated sums
are off by up to 16 %, calibrated ones by 2 to 5 %). Caches are emptied before every run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx
from onnx import helper, shape_inference

from amc_mobile.cost.pricer import width_function
from amc_mobile.graph.traced import TracedGraph, first_channels
from amc_mobile.profile.fit import row_shape
from amc_mobile.profile.law import RowShape
from amc_mobile.profile.mapping import RowKey
from amc_mobile.types import Layer, Policy

_ACTIVATIONS = ("Relu", "Clip", "LeakyRelu", "HardSwish", "HardSigmoid", "Sigmoid")  # a runtime fuses them

LayerKey = tuple[RowShape, int, int]  # layers of equal shape and widths are one model


def layer_keys(traced: TracedGraph, policy: Policy) -> dict[RowKey, LayerKey]:
    """Which single-layer model stands for each row of the network at this policy."""
    network = traced.network
    keys = {RowKey(layer.name, ""): layer for layer in network.layers}
    return {key: (row_shape(network, key), *width_function(layer, network)(policy.kept)) for key, layer in keys.items()}


def layer_models(traced: TracedGraph, policy: Policy) -> Iterator[tuple[LayerKey, onnx.ModelProto]]:
    """Each distinct layer of the network at this policy, with the activation behind it, as a graph of its own."""
    sliced = traced.slice(first_channels(policy))
    keys, seen = layer_keys(traced, policy), set()
    ranks = {item.name: item for item in [*traced.model.graph.input, *traced.model.graph.value_info]}
    for layer in traced.network.layers:
        key = keys[RowKey(layer.name, "")]
        if key not in seen:
            seen.add(key)
            yield key, _alone(sliced, layer, key[1], ranks)


def _alone(
    sliced: onnx.ModelProto, layer: Layer, in_channels: int, tensors: Mapping[str, onnx.ValueInfoProto]
) -> onnx.ModelProto:
    node = next(node for node in sliced.graph.node if layer.output in node.output)
    nodes, output = [node], layer.output
    followers = [other for other in sliced.graph.node if output in other.input]
    if len(followers) == 1 and followers[0].op_type in _ACTIVATIONS:
        nodes.append(followers[0])
        output = followers[0].output[0]
    shape = [dim.dim_value for dim in tensors[layer.input].type.tensor_type.shape.dim]
    shape[-1 if layer.kind == "linear" else 1] = in_channels
    used = {name for part in nodes for name in part.input}
    kind = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        layer.name,
        [helper.make_tensor_value_info(layer.input, kind, shape)],
        [onnx.ValueInfoProto(name=output)],
        [item for item in sliced.graph.initializer if item.name in used],
    )
    model = helper.make_model(graph, opset_imports=sliced.opset_import, ir_version=sliced.ir_version)
    inferred: onnx.ModelProto = shape_inference.infer_shapes(model)
    return inferred

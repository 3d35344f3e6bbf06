"""Any classification-like ONNX file, made plain: static shapes, constants folded, no shared vectors.

What comes out has only true activations on its edges: everything that does not depend on the input is an initialiser.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
import onnx.inliner
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from amc_mobile.errors import GraphError, first_line

Arrays = dict[str, NDArray[Any]]
Shapes = dict[str, tuple[int, ...]]


def prepare(model: onnx.ModelProto) -> tuple[onnx.ModelProto, Arrays, Shapes]:
    """The plain graph without its initialisers, the initialisers, and the static shape of every tensor.

    Raises: GraphError if the file is damaged, has no single image input, or has a free dimension beside the batch.
    """
    arrays: Arrays = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    plain = without_weights(onnx.inliner.inline_local_functions(model) if model.functions else model)
    _fix_batch(plain.graph)
    plain = _infer_shapes(plain, arrays)
    shapes = _shapes(plain.graph)
    _fold_constants(plain, arrays, shapes)
    _unshare_vectors(plain.graph, arrays)
    shapes.update({name: array.shape for name, array in arrays.items()})
    used = {name for node in plain.graph.node for name in node.input}
    return plain, {name: array for name, array in arrays.items() if name in used}, shapes


def with_weights(skeleton: onnx.ModelProto, arrays: Mapping[str, NDArray[Any]]) -> onnx.ModelProto:
    """A copy of the skeleton that holds `arrays` as its initialisers."""
    model = onnx.ModelProto()
    model.CopyFrom(skeleton)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    return model


def without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without initialisers and without recorded intermediate shapes: cheap however large the weights are."""
    stored = {item.name for item in model.graph.initializer}
    bare = onnx.ModelProto(
        ir_version=model.ir_version,
        producer_name=model.producer_name,
        opset_import=model.opset_import,
        metadata_props=model.metadata_props,
    )
    bare.graph.name = model.graph.name or "network"
    bare.graph.node.extend(model.graph.node)
    bare.graph.input.extend(item for item in model.graph.input if item.name not in stored)
    bare.graph.output.extend(model.graph.output)
    return bare


def note_of(model: onnx.ModelProto, key: str) -> Any:
    """What the export noted in the graph's metadata under this key ("amc.folded", ...); None in a foreign file."""
    return next((json.loads(item.value) for item in model.metadata_props if item.key == key), None)


def activations(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """The graph's true inputs: old files list their initialisers as inputs too."""
    stored = {item.name for item in graph.initializer}
    return [item for item in graph.input if item.name not in stored]


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The bodies of an If, Loop or Scan."""
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes as Python values; strings are bytes."""
    return {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}


def _fix_batch(graph: onnx.GraphProto) -> None:
    inputs = activations(graph)
    if len(inputs) != 1:
        names = ", ".join(item.name for item in inputs) or "none"
        raise GraphError(f"the ONNX graph has {len(inputs)} inputs ({names}); give one with a single image input")
    dims = inputs[0].type.tensor_type.shape.dim
    if not dims:
        raise GraphError(f"input {inputs[0].name} has no shape; export the file again with a fixed input shape")
    dims[0].Clear()
    dims[0].dim_value = 1
    for axis, dim in enumerate(dims):
        if not dim.HasField("dim_value") or dim.dim_value <= 0:
            raise GraphError(
                f"input {inputs[0].name} has a free dimension at axis {axis}; export the file again with a fixed size"
            )
    for output in graph.output:
        output.type.tensor_type.ClearField("shape")


def _infer_shapes(plain: onnx.ModelProto, arrays: Arrays) -> onnx.ModelProto:
    """Shapes of all tensors in `value_info`. Large weights are shown to the inference by their shapes only."""
    shown = onnx.ModelProto()
    shown.CopyFrom(plain)
    for name, array in arrays.items():
        if array.size <= 64:
            shown.graph.initializer.append(numpy_helper.from_array(array, name))
        else:
            kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
            shown.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, array.shape))
    try:
        inferred = onnx.shape_inference.infer_shapes(shown, data_prop=True)
    except Exception as error:
        raise GraphError(f"not a usable ONNX graph: {first_line(error)[:200]}; export it again from PyTorch") from error
    plain.graph.value_info.extend(inferred.graph.value_info)
    del plain.graph.output[:]
    plain.graph.output.extend(inferred.graph.output)
    return plain


def _shapes(graph: onnx.GraphProto) -> Shapes:
    shapes: Shapes = {}
    for item in [*graph.input, *graph.value_info, *graph.output]:
        dims = item.type.tensor_type.shape.dim
        if item.type.tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            shapes[item.name] = tuple(dim.dim_value for dim in dims)
    return shapes


def _fold_constants(model: onnx.ModelProto, arrays: Arrays, shapes: Shapes) -> None:
    kept = []
    for node in model.graph.node:
        values = _constant_value(node, arrays, shapes, model)
        if values is None:
            kept.append(node)
        else:
            arrays.update(values)
    kept = [_copy(node) for node in kept]
    del model.graph.node[:]
    model.graph.node.extend(kept)


def _constant_value(node: onnx.NodeProto, arrays: Arrays, shapes: Shapes, model: onnx.ModelProto) -> Arrays | None:
    """What the node computes, if that does not depend on the network's input."""
    if node.op_type == "Shape" and node.input[0] in shapes and not node.attribute:
        return {node.output[0]: np.asarray(shapes[node.input[0]], np.int64)}
    if any(name not in arrays for name in node.input if name) or any(True for _ in subgraphs(node)):
        return None
    if node.op_type.startswith("Random"):
        return None
    inputs = [onnx.helper.make_tensor_value_info(name, 0, None) for name in dict.fromkeys(node.input) if name]
    outputs = [onnx.helper.make_tensor_value_info(name, 0, None) for name in node.output if name]
    graph = onnx.helper.make_graph([node], "constant", inputs, outputs)
    single = onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    try:
        results = ReferenceEvaluator(single).run(None, {item.name: arrays[item.name] for item in inputs})
    except Exception:  # noqa: BLE001 - an operator the reference lacks simply stays in the graph
        return None
    return dict(zip((item.name for item in outputs), map(np.asarray, results), strict=True))


def _unshare_vectors(graph: onnx.GraphProto, arrays: Arrays) -> None:
    """Gives every node its own copy of a shared vector: exporters merge equal biases and shape constants.

    Nodes that share all of their parameters are one layer used twice, and keep sharing.
    """
    owners: dict[tuple[str, object], str] = {}  # (vector, who uses it) -> the name of its own copy
    taken: set[str] = set()
    for number, node in enumerate(graph.node):
        parameters = tuple(name for name in node.input if name in arrays and arrays[name].dtype.kind == "f")
        for position, name in enumerate(node.input):
            if name not in arrays or arrays[name].ndim != 1:
                continue
            user = (node.op_type, parameters) if name in parameters else number
            if (name, user) not in owners:
                owners[name, user] = _own_name(name, node.name or str(number), arrays) if name in taken else name
                taken.add(name)
                arrays[owners[name, user]] = arrays[name]
            node.input[position] = owners[name, user]


def _own_name(vector: str, user: str, arrays: Arrays) -> str:
    own = f"{vector}@{user}"
    while own in arrays:
        own += "'"
    return own


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy

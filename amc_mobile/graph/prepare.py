"""Any classification-like ONNX file, made plain: static shapes, constants folded, no shared vectors.

What comes out has only true activations on its edges: everything that does not depend on the input is an initialiser.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from amc_mobile.errors import GraphError

Arrays = dict[str, NDArray[np.generic]]
Shapes = dict[str, tuple[int, ...]]


def prepare(model: onnx.ModelProto) -> tuple[onnx.ModelProto, Arrays, Shapes]:
    """The plain graph, its initialisers, and the static shape of every tensor.

    Raises: GraphError if the file is damaged, has no single image input, or has a free dimension beside the batch.
    """
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    _fix_batch(plain.graph)
    try:
        plain = onnx.shape_inference.infer_shapes(plain, data_prop=True)
    except Exception as error:  # noqa: BLE001 - onnx raises bare RuntimeErrors for every kind of damage
        raise GraphError(f"not a usable ONNX graph: {_first_line(error)}; export it again from PyTorch") from error
    arrays: Arrays = {item.name: numpy_helper.to_array(item) for item in plain.graph.initializer}
    shapes = _shapes(plain.graph)
    _fold_constants(plain, arrays, shapes)
    _unshare_vectors(plain.graph, arrays)
    shapes.update({name: array.shape for name, array in arrays.items()})
    used = {name for node in plain.graph.node for name in node.input}
    arrays = {name: array for name, array in arrays.items() if name in used}
    store(plain, arrays)
    return plain, arrays, shapes


def store(model: onnx.ModelProto, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Makes `arrays` the model's initialisers, in place."""
    del model.graph.initializer[:]
    model.graph.initializer.extend(
        numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
        for name, array in arrays.items()
    )


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


def attributes(node: onnx.NodeProto) -> dict[str, object]:
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
    del graph.value_info[:]  # may speak of another batch
    for output in graph.output:
        output.type.tensor_type.ClearField("shape")


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


def _constant_value(
    node: onnx.NodeProto, arrays: Arrays, shapes: Shapes, model: onnx.ModelProto
) -> Arrays | None:
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
    """Gives every node its own copy of a shared vector: exporters merge equal biases and shape constants."""
    uses = Counter(name for node in graph.node for name in node.input)
    for number, node in enumerate(graph.node):
        for position, name in enumerate(node.input):
            if name in arrays and arrays[name].ndim == 1 and uses[name] > 1:
                uses[name] -= 1
                own = f"{name}@{node.name or number}"
                while own in arrays:
                    own += "'"
                arrays[own] = arrays[name]
                node.input[position] = own


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__

"""What is known of a graph's tensors without running it: element type and static shape."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper


@dataclass(frozen=True, slots=True)
class TensorType:
    """One tensor's element type, and its shape if that is static."""

    dtype: np.dtype
    shape: tuple[int, ...] | None


def tensor_types(model: onnx.ModelProto) -> dict[str, TensorType]:
    """The types that inputs, initialisers and recorded intermediate tensors tell, by tensor name."""
    types: dict[str, TensorType] = {}
    for info in [*model.graph.value_info, *model.graph.input]:
        tensor = info.type.tensor_type
        static = tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim)
        if tensor.elem_type:
            shape = tuple(dim.dim_value for dim in tensor.shape.dim) if static else None
            types[info.name] = TensorType(helper.tensor_dtype_to_np_dtype(tensor.elem_type), shape)
    for stored in model.graph.initializer:
        types[stored.name] = TensorType(helper.tensor_dtype_to_np_dtype(stored.data_type), tuple(stored.dims))
    return types


def record_types(model: onnx.ModelProto) -> None:
    """Records in place the type and shape of every intermediate tensor, by ONNX shape inference.

    The weights' values are left out of what is inferred on: they do not matter, and may be hundreds of megabytes.
    """
    light = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    light.graph.name = model.graph.name
    light.graph.node.extend(model.graph.node)
    light.graph.input.extend(model.graph.input)
    light.graph.output.extend(model.graph.output)
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.INT64:  # shapes, axes, indices
            light.graph.initializer.append(tensor)
        else:
            light.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    inferred = onnx.shape_inference.infer_shapes(light, strict_mode=True, data_prop=True)
    del model.graph.value_info[:]
    model.graph.value_info.extend(inferred.graph.value_info)

"""Chunks without sequences: SplitToSequence and SequenceAt become one Split, which everything else understands."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from amc_mobile.export.tensor_types import tensor_types


def split_sequences(model: onnx.ModelProto) -> None:
    """Rewrites in place every SplitToSequence whose pieces are only read by SequenceAt with a constant index.

    Expects constants to be folded. The pieces keep their tensor names.
    """
    values = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.INT64
    }
    types = tensor_types(model)
    for node in [node for node in model.graph.node if node.op_type == "SplitToSequence"]:
        readers = [reader for reader in model.graph.node if node.output[0] in reader.input]
        plain = all(reader.op_type == "SequenceAt" and reader.input[1] in values for reader in readers)
        source = types.get(node.input[0])
        if not plain or len(node.input) < 2 or node.input[1] not in values or source is None or source.shape is None:
            continue
        axis = next((item.i for item in node.attribute if item.name == "axis"), 0)
        sizes = _sizes(values[node.input[1]], source.shape[axis])
        names = [f"{node.output[0]}_{piece}" for piece in range(len(sizes))]
        for reader in readers:
            names[int(values[reader.input[1]])] = reader.output[0]
            model.graph.node.remove(reader)
        lengths = numpy_helper.from_array(np.asarray(sizes, np.int64), f"{node.output[0]}_sizes")
        model.graph.initializer.append(lengths)
        split = helper.make_node("Split", [node.input[0], lengths.name], names, axis=axis)
        split.metadata_props.extend(node.metadata_props)
        node.CopyFrom(split)


def _sizes(split: np.ndarray, length: int) -> list[int]:
    """The lengths of the pieces: a scalar is the size of every piece but perhaps the last."""
    if split.ndim:
        return [int(size) for size in split]
    return [min(int(split), length - start) for start in range(0, length, int(split))]

"""Static int8: QDQ nodes around every operator that has an int8 kernel, weights per channel.

The ranges of the activations are those of the float network on some images. A pruned network has the same tensors, so
that ranges are found once and hold, as an estimate, for every slice.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from amc_mobile.errors import GraphError, first_line

Ranges = Mapping[str, tuple[float, float]]  # tensor -> least and largest value

_OPERATORS = (
    "Conv",
    "Gemm",
    "MatMul",
    "Add",
    "Mul",
    "Clip",
    "Relu",
    "LeakyRelu",
    "Sigmoid",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "Concat",
    "Split",
    "Pad",
    "Slice",
    "Reshape",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Transpose",
)
_SUFFIXES = ("_QuantizeLinear_Output", "_QuantizeLinear_Input", "_DequantizeLinear_Output", "_QuantizeLinear")


def activation_ranges(
    model: onnx.ModelProto, images: NDArray[np.float32], threads: int = 1
) -> dict[str, tuple[float, float]]:
    """The range of every float tensor of the graph over images (N, C, H, W), one image at a time."""
    everything = onnx.ModelProto()
    everything.CopyFrom(model)
    graph = everything.graph
    told = {item.name for item in graph.output}
    inner = [name for node in graph.node for name in node.output if name and name not in told]
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, threads
    session = onnxruntime.InferenceSession(everything.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feed, names = session.get_inputs()[0].name, [item.name for item in session.get_outputs()]
    found: dict[str, tuple[float, float]] = {}
    for image in images:
        for name, values in [(feed, image[None]), *zip(names, session.run(names, {feed: image[None]}), strict=True)]:
            if values.dtype == np.float32 and values.size:
                low, high = found.get(name, (0.0, 0.0))
                found[name] = min(low, float(values.min())), max(high, float(values.max()))
    return found


def quantise(model: onnx.ModelProto, ranges: Ranges) -> onnx.ModelProto:
    """The graph with QuantizeLinear and DequantizeLinear nodes: uint8 activations, int8 weights of each channel.

    Weights have seven bits: x86 processors without VNNI saturate sums of two products of eight, Arm's do not, and one
    file would answer differently on both (digits: by 0.8 % of the range; with seven bits the same on either).
    The model is not changed. Raises: GraphError if ONNX Runtime's quantizer cannot take it.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    limits = {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()}
    try:
        quantizer = QDQQuantizer(
            copy,
            per_channel=True,
            reduce_range=True,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=TensorsData(CalibrationMethod.MinMax, limits),
            nodes_to_quantize=[],
            nodes_to_exclude=[],
            op_types_to_quantize=list(_OPERATORS),
            extra_options={},
        )
        quantizer.quantize_model()
    except Exception as error:
        raise GraphError(f"ONNX Runtime cannot quantise this network: {first_line(error)}") from error
    quantised: onnx.ModelProto = quantizer.model.model
    return quantised


def float_names(tensors: tuple[str, ...]) -> tuple[str, ...]:
    """The float graph's names of a quantised graph's tensors."""
    return tuple(_float_name(name) for name in tensors)


def _float_name(tensor: str) -> str:
    for suffix in _SUFFIXES:
        tensor = tensor.removesuffix(suffix)
    return tensor

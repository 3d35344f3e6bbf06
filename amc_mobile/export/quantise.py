"""Static int8: QDQ nodes around every operator that has an int8 kernel, weights per channel.

A network that ships is calibrated on itself. For timing, ranges need not be right: a pruned network has the tensors of
the original, so that ranges that were found once serve every slice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import get_args

import numpy as np
import onnx
import onnx.version_converter
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from amc_mobile.device.protocol import Progress
from amc_mobile.errors import GraphError, first_line
from amc_mobile.export.calibrate import Ranges, calibrate
from amc_mobile.export.from_onnx import answers
from amc_mobile.graph.prepare import attributes
from amc_mobile.types import RangeChoice, RangeMethod

WEIGHT_BITS = 7  # see `quantise`
_OPSET = 13  # from this on, DequantizeLinear has an axis

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
_MOVING = ("Concat", "Split", "Slice", "Gather", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity")
_ASSEMBLING = "answer/"  # how the names of the nodes begin that assemble the outputs
_SUFFIXES = ("_QuantizeLinear_Output", "_QuantizeLinear_Input", "_DequantizeLinear_Output", "_QuantizeLinear")


def in_int8(
    model: onnx.ModelProto,
    images: NDArray[np.float32],
    method: RangeChoice = "minmax",
    threads: int = 1,
    progress: Progress | None = None,
) -> onnx.ModelProto:
    """The float graph in int8 as it ships: calibrated on images (N, C, H, W), biases corrected.

    "auto" is the method whose network answers these images most like the float one: with the least squared error.
    Raises: GraphError if it cannot be quantised or does not run.
    """
    if method != "auto":
        return _in_int8(model, images, method, threads, progress)
    wanted = answers(model, images)
    made = [_in_int8(model, images, each, threads, progress) for each in get_args(RangeMethod)]
    return min(made, key=lambda found: float(np.square(answers(found, images) - wanted).mean(dtype=np.float64)))


def _in_int8(
    model: onnx.ModelProto,
    images: NDArray[np.float32],
    method: RangeMethod,
    threads: int,
    progress: Progress | None,
) -> onnx.ModelProto:
    calibration = calibrate(model, images, method, threads, progress)
    first = quantise(model, calibration.ranges)
    return quantise(with_corrected_biases(model, first, calibration.means), calibration.ranges)


def quantise(model: onnx.ModelProto, ranges: Ranges, weight_bits: int = WEIGHT_BITS) -> onnx.ModelProto:
    """The graph with QuantizeLinear and DequantizeLinear nodes: uint8 activations, int8 weights of each channel.

    Weights have seven bits: x86 processors without VNNI saturate sums of two products of eight, Arm's do not, and one
    file would answer differently on both (digits: by 0.8 % of the range; with seven bits the same on either).
    Nodes that only assemble the outputs run in float, so that every head of a network has a scale of its own.
    A graph of an opset before 13 is converted, as it could not hold scales per channel.
    The model is not changed. Raises: GraphError if ONNX Runtime's quantizer cannot take it.
    """
    copy = _of_today(model)
    _name_all(copy.graph)
    limits = {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()}
    try:
        quantizer = QDQQuantizer(
            copy,
            per_channel=True,
            reduce_range=weight_bits < 8,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=TensorsData(CalibrationMethod.MinMax, limits),
            nodes_to_quantize=[],
            nodes_to_exclude=_name_assembling(copy.graph),
            op_types_to_quantize=list(_OPERATORS),
            extra_options={},
        )
        quantizer.quantize_model()
    except Exception as error:
        raise GraphError(f"ONNX Runtime cannot quantise this network: {first_line(error)}") from error
    quantised: onnx.ModelProto = quantizer.model.model
    return quantised


def _of_today(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy, whose operators are those of opset 13 at least. Raises: GraphError."""
    opset = next((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), _OPSET)
    if opset < _OPSET:
        try:
            return onnx.version_converter.convert_version(model, _OPSET)
        except Exception as error:  # the converter's errors have no common root
            raise GraphError(
                f"int8 needs ONNX's opset {_OPSET}, and this graph of opset {opset} cannot be converted "
                f"({first_line(error)}); export it again with opset_version={_OPSET}"
            ) from error
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _name_all(graph: onnx.GraphProto) -> None:
    """Gives nodes without a name of their own one: a bias that layers share is copied for each of them by name."""
    seen = Counter(node.name for node in graph.node)
    for node in graph.node:
        if not node.name or seen[node.name] > 1:
            node.name = f"{node.op_type}/{node.output[0]}"


def _name_assembling(graph: onnx.GraphProto) -> list[str]:
    """Names the nodes that move data on its way from the last layers to the outputs, and to nowhere else."""
    reads = Counter(name for node in graph.node for name in node.input)  # without those by nodes found so far
    named = []
    for node in reversed(graph.node):
        if node.op_type in _MOVING and not any(reads[name] for name in node.output):
            reads.subtract(node.input)
            node.name = _ASSEMBLING + node.output[0]
            named.append(node.name)
    return named


def with_corrected_biases(
    model: onnx.ModelProto, quantised: onnx.ModelProto, means: Mapping[str, NDArray[np.float64]]
) -> onnx.ModelProto:
    """The float graph with the biases that undo what rounded weights shift its layers' outputs by, on average.

    A layer whose weights W become V by rounding answers (V - W) E[x] more, on average over inputs x, of which `means`
    has the mean in every channel (Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction,
    ICCV 2019, section 4.2). Padding is not looked at. Layers without a bias stay as they are.
    """
    corrected = onnx.ModelProto()
    corrected.CopyFrom(model)
    stored = {item.name: item for item in corrected.graph.initializer}
    rounded = _rounded_weights(quantised)
    readers = Counter(name for node in model.graph.node for name in node.input)
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm") or len(node.input) < 3 or readers[node.input[2]] > 1:
            continue
        data, weight, bias = node.input[:3]
        if weight in rounded and bias in stored and data in means:
            error = rounded[weight] - numpy_helper.to_array(stored[weight])
            shift = _mean_shift(node, error, means[data])
            values = numpy_helper.to_array(stored[bias])
            if values.shape == shift.shape:
                stored[bias].CopyFrom(numpy_helper.from_array((values - shift).astype(values.dtype), bias))
    return corrected


def _mean_shift(node: onnx.NodeProto, error: NDArray[np.float32], means: NDArray[np.float64]) -> NDArray[np.float64]:
    """What an error of the weights adds to each output channel, for inputs with these means per channel."""
    settings = attributes(node)
    if node.op_type == "Gemm":
        matrix = error if settings.get("transB", 0) else error.T
        return np.asarray(settings.get("alpha", 1.0) * (matrix @ means), np.float64)
    groups = settings.get("group", 1)
    sums = error.sum(axis=tuple(range(2, error.ndim)), dtype=np.float64).reshape(groups, -1, error.shape[1])
    shift: NDArray[np.float64] = np.einsum("goi,gi->go", sums, means.reshape(groups, -1)).ravel()
    return shift


def _rounded_weights(quantised: onnx.ModelProto) -> dict[str, NDArray[np.float32]]:
    """By the float graph's name every weight as the int8 graph has it."""
    stored = {item.name: item for item in quantised.graph.initializer}
    found = {}
    for node in quantised.graph.node:
        levels = stored.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if levels is not None and levels.data_type == onnx.TensorProto.INT8:
            values = numpy_helper.to_array(levels).astype(np.float32)
            scales = numpy_helper.to_array(stored[node.input[1]])
            axis = attributes(node).get("axis", 1) if scales.size > 1 else 0
            shape = [-1 if each == axis else 1 for each in range(values.ndim)]
            found[_float_name(node.output[0])] = values * scales.reshape(shape)
    return found


def float_names(tensors: tuple[str, ...]) -> tuple[str, ...]:
    """The float graph's names of a quantised graph's tensors."""
    return tuple(_float_name(name) for name in tensors)


def _float_name(tensor: str) -> str:
    for suffix in _SUFFIXES:
        tensor = tensor.removesuffix(suffix)
    return tensor

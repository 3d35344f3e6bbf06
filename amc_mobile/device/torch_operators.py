"""ONNX operators in terms of torch: what torch_graph.py looks up by name.

A function takes the node and its inputs, None for one that is left out, and answers the node's only output (or, where
ONNX has several, a sequence). Only what the operators' definition says for networks that classify images; an option
beyond that raises GraphError instead of giving another number. No function asks the GPU for a number, which would make
it wait, or sends it a new one in every run: what says shapes and places is on the host.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import onnx
import torch
from torch import Tensor
from torch.nn import functional

from amc_mobile.errors import GraphError


@dataclass(frozen=True, slots=True)
class Node:
    """One node of the graph, its attributes read."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    _places: dict[Any, Tensor] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def read(cls, node: onnx.NodeProto) -> Node:
        """The node of an ONNX graph."""
        attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
        return cls(node.op_type, node.name, tuple(node.input), tuple(node.output), attributes)

    def get(self, name: str, default: Any) -> Any:
        """An attribute; texts as str."""
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def places(self, values: Sequence[int], device: torch.device) -> Tensor:
        """Whole numbers on the device. They are sent there once: a copy from the host cannot be in a CUDA graph."""
        key = (device, *values)
        if key not in self._places:
            self._places[key] = torch.tensor(values, dtype=torch.int64, device=device)
        return self._places[key]

    def together(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The tensors on the device that one of them is on: the graph's whole numbers are on the host.

        A single number may stay there.
        """
        device = next((one.device for one in tensors if one.device.type != "cpu"), torch.device("cpu"))
        return [
            self.places(one.reshape(-1).tolist(), device).reshape(one.shape).to(one.dtype)
            if one.device != device and one.ndim and not one.is_floating_point()
            else one
            for one in tensors
        ]

    def refuse(self, what: str) -> GraphError:
        """The error for something that is not implemented."""
        return GraphError(f"torch cannot run {self.op} {self.name}: {what} is not implemented")


Operator = Callable[..., Any]


# ------------------------------------------------------------------------------------------------ layers and windows


def _conv(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    dims = weight.ndim - 2
    stride, dilation = node.get("strides", [1] * dims), node.get("dilations", [1] * dims)
    x, padding = _pad_for(node, x, weight.shape[2:], stride, dilation, 0.0)
    convolve = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}[dims]
    return convolve(x, weight, bias, stride, padding, dilation, node.get("group", 1))


def _gemm(node: Node, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    a = a.T if node.get("transA", 0) else a
    b = b.T if node.get("transB", 0) else b
    product = node.get("alpha", 1.0) * (a @ b) if node.get("alpha", 1.0) != 1.0 else a @ b
    return product if c is None else product + node.get("beta", 1.0) * c


def _max_pool(node: Node, x: Tensor) -> Tensor:
    if len(node.outputs) > 1:
        raise node.refuse("the second output")
    kernel = node.get("kernel_shape", [])
    stride, dilation = node.get("strides", [1] * len(kernel)), node.get("dilations", [1] * len(kernel))
    x, padding = _pad_for(node, x, kernel, stride, dilation, float("-inf"))
    return functional.max_pool2d(x, kernel, stride, padding, dilation, bool(node.get("ceil_mode", 0)))


def _average_pool(node: Node, x: Tensor) -> Tensor:
    kernel, counted = node.get("kernel_shape", []), bool(node.get("count_include_pad", 0))
    stride = node.get("strides", [1] * len(kernel))
    ceil = bool(node.get("ceil_mode", 0))
    padded, padding = _pad_for(node, x, kernel, stride, [1] * len(kernel), 0.0)
    if padded is not x and not counted:
        ones = functional.pad(torch.ones_like(x), _sides(node.get("pads", [])))
        averaged = functional.avg_pool2d(padded, kernel, stride, 0, ceil)
        return averaged / functional.avg_pool2d(ones, kernel, stride, 0, ceil)
    return functional.avg_pool2d(padded, kernel, stride, padding, ceil, counted)


def _pad_for(
    node: Node, x: Tensor, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], value: float
) -> tuple[Tensor, list[int]]:
    """The input, padded where the two sides differ, and the padding that is left to the operator."""
    mode, dims = node.get("auto_pad", "NOTSET"), len(kernel)
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        spans = [(taps - 1) * step + 1 for taps, step in zip(kernel, dilation, strict=True)]
        sizes = zip(x.shape[2:], spans, stride, strict=True)
        missing = [max((-(-size // step) - 1) * step + span - size, 0) for size, span, step in sizes]
        small, large = [item // 2 for item in missing], [item - item // 2 for item in missing]
        pads = [*small, *large] if mode == "SAME_UPPER" else [*large, *small]
    else:
        pads = [0] * 2 * dims if mode == "VALID" else list(node.get("pads", [0] * 2 * dims))
    if pads[:dims] == pads[dims:]:
        return x, pads[:dims]
    return functional.pad(x, _sides(pads), value=value), [0] * dims


def _sides(pads: Sequence[int]) -> list[int]:
    """ONNX's pads (all beginnings, then all ends) in torch's order (last axis first, its two sides together)."""
    half = len(pads) // 2
    return [pads[axis + side * half] for axis in reversed(range(half)) for side in (0, 1)]


# ------------------------------------------------------------------------------------------------------ normalisation


def _batch_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    return functional.batch_norm(x, mean, variance, scale, bias, eps=node.get("epsilon", 1e-5))


def _layer_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    axis = node.get("axis", -1) % x.ndim
    shape = x.shape[axis:]
    offset = None if bias is None else bias.expand(shape)
    return functional.layer_norm(x, shape, scale.expand(shape), offset, node.get("epsilon", 1e-5))


def _instance_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return functional.instance_norm(x, weight=scale, bias=bias, eps=node.get("epsilon", 1e-5))


# --------------------------------------------------------------------------------------------------- one to one


def _clip(node: Node, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    low = node.get("min", None) if low is None else low
    high = node.get("max", None) if high is None else high
    if low is None and high is None:
        return x
    bounds = (bound.item() if isinstance(bound, Tensor) else bound for bound in (low, high))
    return torch.clamp(x, *bounds)


def _hard_sigmoid(node: Node, x: Tensor) -> Tensor:
    return torch.clamp(node.get("alpha", 0.2) * x + node.get("beta", 0.5), 0.0, 1.0)


def _cast(node: Node, x: Tensor) -> Tensor:
    kinds = {
        onnx.TensorProto.FLOAT: torch.float32,
        onnx.TensorProto.INT64: torch.int64,
        onnx.TensorProto.INT32: torch.int32,
        onnx.TensorProto.BOOL: torch.bool,
    }
    if node.get("to", 0) not in kinds:
        raise node.refuse(f"type {node.get('to', 0)}")
    return x.to(kinds[node.get("to", 0)])


def _mod(node: Node, x: Tensor, y: Tensor) -> Tensor:
    x, y = node.together((x, y))
    return torch.fmod(x, y) if node.get("fmod", 0) else torch.remainder(x, y)


def _prelu(node: Node, x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x < 0, x * slope, x)


# ----------------------------------------------------------------------------------------------------- reductions


def _reduction(reduce: Callable[[Tensor, list[int], bool], Tensor]) -> Operator:
    def run(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
        chosen = node.get("axes", None) if axes is None else axes.tolist()
        if not chosen and node.get("noop_with_empty_axes", 0):
            return x
        return reduce(x, list(chosen or range(x.ndim)), bool(node.get("keepdims", 1)))

    return run


def _softmax(node: Node, x: Tensor) -> Tensor:
    return torch.softmax(x, node.get("axis", -1))


def _pool_all(reduce: Callable[[Tensor, list[int], bool], Tensor]) -> Operator:
    return lambda node, x: reduce(x, list(range(2, x.ndim)), True)


def _mean(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return x.mean(axes, keep)


def _sum(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return x.sum(axes, keep)


# --------------------------------------------------------------------------------------------------- data movement


def _reshape(node: Node, x: Tensor, shape: Tensor) -> Tensor:
    sizes = shape.tolist()
    if not node.get("allowzero", 0):
        sizes = [x.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    return x.reshape(sizes)


def _flatten(node: Node, x: Tensor) -> Tensor:
    axis = node.get("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(x.shape[:axis].numel(), -1)


def _transpose(node: Node, x: Tensor) -> Tensor:
    return x.permute(node.get("perm", list(reversed(range(x.ndim)))))


def _squeeze(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    chosen = node.get("axes", None) if axes is None else axes.tolist()
    return x.squeeze() if chosen is None else x.squeeze(tuple(chosen))


def _unsqueeze(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    chosen = node.get("axes", []) if axes is None else axes.tolist()
    for axis in sorted(axis % (x.ndim + len(chosen)) for axis in chosen):
        x = x.unsqueeze(axis)
    return x


def _concat(node: Node, *parts: Tensor) -> Tensor:
    return torch.cat(parts, node.get("axis", 0))


def _split(node: Node, x: Tensor, sizes: Tensor | None = None) -> Sequence[Tensor]:
    axis = node.get("axis", 0)
    wanted = node.get("split", None) if sizes is None else sizes.tolist()
    if wanted is None:
        count = node.get("num_outputs", len(node.outputs))
        return torch.split(x, -(-x.shape[axis] // count), axis)
    return torch.split(x, wanted, axis)


def _slice(node: Node, x: Tensor, *bounds: Tensor | None) -> Tensor:
    if bounds:
        starts, ends, axes, steps = ([] if item is None else item.tolist() for item in (*bounds, None, None)[:4])
    else:  # before opset 10
        starts, ends, axes, steps = *(node.get(key, []) for key in ("starts", "ends", "axes")), []
    for place, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis, step = axes[place] % x.ndim if axes else place, steps[place] if steps else 1
        places = range(*slice(start, end, step).indices(x.shape[axis]))
        if step > 0:
            x = x[(*[slice(None)] * axis, slice(places.start, max(places.stop, places.start), step))]
        else:
            x = x.index_select(axis, node.places(places, x.device))
    return x


def _pad(
    node: Node, x: Tensor, pads: Tensor | None = None, value: Tensor | None = None, axes: Tensor | None = None
) -> Tensor:
    if node.get("mode", "constant") != "constant":
        raise node.refuse(f"mode {node.get('mode', '')}")
    given = node.get("pads", []) if pads is None else pads.tolist()
    chosen = list(range(x.ndim)) if axes is None else [axis % x.ndim for axis in axes.tolist()]
    full = [0] * 2 * x.ndim
    for place, axis in enumerate(chosen):
        full[axis], full[axis + x.ndim] = given[place], given[place + len(chosen)]
    return functional.pad(x, _sides(full), value=node.get("value", 0.0) if value is None else float(value))


def _gather(node: Node, x: Tensor, index: Tensor) -> Tensor:
    axis = node.get("axis", 0) % x.ndim
    if index.device == x.device:
        flat = index.reshape(-1) % x.shape[axis]
    else:
        flat = node.places([place % x.shape[axis] for place in index.reshape(-1).tolist()], x.device)
    return x.index_select(axis, flat).reshape(*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])


def _expand(node: Node, x: Tensor, shape: Tensor) -> Tensor:
    return x.expand(torch.broadcast_shapes(x.shape, shape.tolist()))  # type: ignore[no-untyped-call]


def _shape(node: Node, x: Tensor) -> Tensor:
    return torch.tensor(x.shape[node.get("start", 0) : node.get("end", None)], dtype=torch.int64)


def _depth_to_space(node: Node, x: Tensor) -> Tensor:
    if node.get("mode", "DCR") == "CRD":
        return functional.pixel_shuffle(x, node.get("blocksize", 1))
    size, (n, c, h, w) = node.get("blocksize", 1), x.shape
    blocks = x.reshape(n, size, size, c // size**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return blocks.reshape(n, c // size**2, h * size, w * size)


def _plain(function: Callable[..., Any]) -> Operator:
    """An operator without attributes."""
    return lambda node, *inputs: function(*node.together(inputs))


def _chain(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    """An operator of any number of inputs, applied to two at a time."""

    def run(node: Node, *inputs: Tensor) -> Tensor:
        first, *others = node.together(inputs)
        for other in others:
            first = function(first, other)
        return first

    return run


# Operators to which a constant number is handed on the host: as an argument of the kernel, not as one more tensor.
TAKE_NUMBERS = frozenset({"Add", "Clip", "Div", "Max", "Min", "Mul", "Pad", "Pow", "Sub"})

OPERATORS: Mapping[str, Operator] = MappingProxyType(
    {
        **{name: _plain(getattr(torch, name.lower())) for name in ("Abs", "Add", "Div", "Erf", "Exp", "Log", "MatMul")},
        **{
            name: _plain(getattr(torch, name.lower()))
            for name in ("Mul", "Neg", "Pow", "Reciprocal", "Relu", "Sigmoid")
        },
        **{name: _plain(getattr(torch, name.lower())) for name in ("Sqrt", "Sub", "Tanh", "Where", "Floor")},
        "AveragePool": _average_pool,
        "BatchNormalization": _batch_norm,
        "Cast": _cast,
        "Clip": _clip,
        "Concat": _concat,
        "Conv": _conv,
        "DepthToSpace": _depth_to_space,
        "Dropout": lambda node, x, *_: x,
        "Elu": lambda node, x: functional.elu(x, node.get("alpha", 1.0)),
        "Expand": _expand,
        "Flatten": _flatten,
        "Gather": _gather,
        "Gelu": lambda node, x: functional.gelu(x, approximate=node.get("approximate", "none")),
        "Gemm": _gemm,
        "GlobalAveragePool": _pool_all(_mean),
        "GlobalMaxPool": _pool_all(torch.amax),
        "HardSigmoid": _hard_sigmoid,
        "HardSwish": lambda node, x: functional.hardswish(x),
        "Identity": lambda node, x: x,
        "InstanceNormalization": _instance_norm,
        "LayerNormalization": _layer_norm,
        "LeakyRelu": lambda node, x: functional.leaky_relu(x, node.get("alpha", 0.01)),
        "LogSoftmax": lambda node, x: torch.log_softmax(x, node.get("axis", -1)),
        "Max": _chain(torch.maximum),
        "MaxPool": _max_pool,
        "Min": _chain(torch.minimum),
        "Mod": _mod,
        "PRelu": _prelu,
        "Pad": _pad,
        "ReduceL2": _reduction(lambda x, axes, keep: x.square().sum(axes, keep).sqrt()),
        "ReduceMax": _reduction(torch.amax),
        "ReduceMean": _reduction(_mean),
        "ReduceMin": _reduction(torch.amin),
        "ReduceSum": _reduction(_sum),
        "Reshape": _reshape,
        "Shape": _shape,
        "Slice": _slice,
        "Softmax": _softmax,
        "Softplus": lambda node, x: functional.softplus(x),
        "Split": _split,
        "Squeeze": _squeeze,
        "Sum": _chain(torch.add),
        "Transpose": _transpose,
        "Unsqueeze": _unsqueeze,
    }
)

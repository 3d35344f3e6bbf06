"""An ONNX graph, run node by node by torch's own kernels: in full float32 precision, or in half of it if wished."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from amc_mobile.device.torch_operators import OPERATORS, TAKE_NUMBERS, Node
from amc_mobile.errors import GraphError, first_line

Around = Callable[[int], AbstractContextManager[Any]]  # what a node is run inside of, by its place in the graph


class TorchGraph:
    """An ONNX graph whose weights are on a torch device, ready to run. TF32 is off.

    Args:
        model: with one input, and nothing but operators of torch_operators.py.
        device: where the weights are kept and the nodes are run.
        dtype: all fractional numbers are cast to it, whole ones are left alone; None runs the graph as it is stored.
        deterministic: the same bits in every run, for which cuDNN may have to take a slower kernel.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        device: torch.device,
        dtype: torch.dtype | None = None,
        *,
        deterministic: bool = True,
    ) -> None:
        """Raises: GraphError if the graph has several inputs, or an operator that torch_operators does not know."""
        self._nodes = [Node.read(node) for node in model.graph.node]
        for node in self._nodes:
            if node.op not in OPERATORS:
                raise node.refuse("this operator")
        self._dtype, self._deterministic = dtype, deterministic
        self._input, self._output = image_input(model.graph).name, model.graph.output[0].name
        self._weights = {item.name: _tensor(item, device, dtype) for item in model.graph.initializer}
        numbers = {item.name: _array(item) for item in model.graph.initializer if not item.dims}
        self._on_host = {**self._weights, **numbers}
        self._last_use = {name: place for place, node in enumerate(self._nodes) for name in node.inputs}

    def __call__(self, images: Tensor, around: Around | None = None) -> Tensor:
        """The graph's first output. Raises: GraphError if torch cannot run a node."""
        values: dict[str, Any] = {self._input: images}
        with torch.inference_mode(), self._exact():
            for place, node in enumerate(self._nodes):
                with nullcontext() if around is None else around(place):
                    values.update(zip(node.outputs, self._run(node, values), strict=False))
                for name in set(node.inputs):
                    if self._last_use[name] == place and name != self._output:
                        values.pop(name, None)
        output: Tensor = values[self._output]
        return output

    def _exact(self) -> AbstractContextManager[None]:
        """Without TF32, and with the kernels that cuDNN's rules choose: trials would choose others in each session."""
        return torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=self._deterministic, allow_tf32=False
        )

    def _run(self, node: Node, values: dict[str, Any]) -> list[Tensor]:
        constants = self._on_host if node.op in TAKE_NUMBERS else self._weights
        inputs = [None if not name else values[name] if name in values else constants[name] for name in node.inputs]
        try:
            answer = OPERATORS[node.op](node, *inputs)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise GraphError(f"torch cannot run {node.op} {node.name}: {first_line(error)}") from error
        outputs = [answer] if isinstance(answer, Tensor) else list(answer)
        return outputs if self._dtype is None else [_cast(output, self._dtype) for output in outputs]


def image_input(graph: onnx.GraphProto) -> onnx.ValueInfoProto:
    """The graph's only true input: old files list their initialisers as inputs too.

    Raises: GraphError if it has none or several.
    """
    stored = {item.name for item in graph.initializer}
    inputs: list[onnx.ValueInfoProto] = [item for item in graph.input if item.name not in stored]
    if len(inputs) != 1:
        names = ", ".join(item.name for item in inputs) or "none"
        raise GraphError(f"the ONNX graph has {len(inputs)} inputs ({names}); give one with a single image input")
    return inputs[0]


def as_on_device(tensor: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """The tensor as the device takes it: fractional numbers in `dtype`, and images and kernels with channels last."""
    placed = (tensor if dtype is None else _cast(tensor, dtype)).to(device)
    return placed.contiguous(memory_format=torch.channels_last) if placed.ndim == 4 else placed


def _tensor(item: onnx.TensorProto, device: torch.device, dtype: torch.dtype | None) -> Tensor:
    """A weight on the device; whole numbers stay on the host, because they say shapes and places."""
    array = _array(item)
    if not array.is_floating_point() and array.dtype != torch.bool:
        return array
    return as_on_device(array, device, dtype)


def _array(item: onnx.TensorProto) -> Tensor:
    return torch.from_numpy(np.array(numpy_helper.to_array(item)))


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor

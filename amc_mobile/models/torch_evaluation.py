"""How good a network is on some images, by torch: for machines with a GPU.

The very graph that would be shipped is run, node by node, by torch's own kernels in full float32 precision. Images stay
on the device; the weights of a candidate are sent there once.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor

from amc_mobile.errors import GraphError, first_line
from amc_mobile.graph.prepare import activations
from amc_mobile.models.evaluation import BatchEvaluator, Images, Places
from amc_mobile.models.torch_operators import OPERATORS, Node

_BATCH = 256  # keeps a GPU busy; a CPU is better served by ONNX Runtime anyway


class TorchEvaluator(BatchEvaluator):
    """Scores networks as OnnxEvaluator does, on a torch device. Its last digits are the device's own."""

    def __init__(
        self,
        images: Images,
        labels: NDArray[np.integer],
        device: str,
        reference_logits: NDArray[np.floating] | None = None,
        batch: int = _BATCH,
    ) -> None:
        """Takes float32 images (N, C, H, W), int labels (N,), and the original's logits (N, classes) to compare with.

        Args:
            device: "cuda", "cuda:1", "cpu".
            batch: images that run at once.
        """
        super().__init__(images, labels, reference_logits, batch)
        self._device = torch.device(device)
        whole = torch.from_numpy(np.ascontiguousarray(images, np.float32)).to(self._device)
        self._images = whole.contiguous(memory_format=torch.channels_last) if whole.ndim == 4 else whole

    def _answers(self, model: onnx.ModelProto, parts: Sequence[Places]) -> Generator[Images]:
        graph = TorchGraph(model, self._device)
        for part in parts:
            yield graph(self._images[torch.from_numpy(part).to(self._device)]).cpu().numpy()


class TorchGraph:
    """An ONNX graph whose weights are on a torch device, ready to run."""

    def __init__(self, model: onnx.ModelProto, device: torch.device) -> None:
        """Raises: GraphError if the graph has an operator that torch_operators does not know."""
        self._nodes = [Node.read(node) for node in model.graph.node]
        for node in self._nodes:
            if node.op not in OPERATORS:
                raise node.refuse("this operator")
        self._input, self._output = activations(model.graph)[0].name, model.graph.output[0].name
        self._weights = {item.name: _tensor(item, device) for item in model.graph.initializer}
        self._last_use = {name: place for place, node in enumerate(self._nodes) for name in node.inputs}

    def __call__(self, images: Tensor) -> Tensor:
        """The graph's first output. Raises: GraphError if torch cannot run a node."""
        values: dict[str, Any] = {self._input: images}
        exact = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
        with torch.inference_mode(), exact:
            for place, node in enumerate(self._nodes):
                values.update(zip(node.outputs, self._run(node, values), strict=False))
                for name in set(node.inputs):
                    if self._last_use[name] == place and name != self._output:
                        values.pop(name, None)
        output: Tensor = values[self._output]
        return output

    def _run(self, node: Node, values: dict[str, Any]) -> list[Tensor]:
        inputs = [None if not name else values[name] if name in values else self._weights[name] for name in node.inputs]
        try:
            answer = OPERATORS[node.op](node, *inputs)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise GraphError(f"torch cannot run {node.op} {node.name}: {first_line(error)}") from error
        return [answer] if isinstance(answer, Tensor) else list(answer)


def _tensor(item: onnx.TensorProto, device: torch.device) -> Tensor:
    """A weight on the device; whole numbers stay on the host, because they say shapes and places."""
    array = torch.from_numpy(np.array(numpy_helper.to_array(item)))
    if not array.is_floating_point() and array.dtype != torch.bool:
        return array
    weight = array.to(device)
    return weight.contiguous(memory_format=torch.channels_last) if weight.ndim == 4 else weight

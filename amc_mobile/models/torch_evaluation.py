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

from amc_mobile.device.torch_graph import TorchGraph, as_on_device
from amc_mobile.errors import GraphError
from amc_mobile.models.evaluation import BatchEvaluator, Images, JudgeOf, Places
from amc_mobile.models.outcomes import Judge

_BATCH = 256  # keeps a GPU busy; a CPU is better served by ONNX Runtime anyway


class TorchEvaluator(BatchEvaluator):
    """Scores networks as OnnxEvaluator does, on a torch device. Its last digits are the device's own."""

    def __init__(
        self,
        images: Images,
        labels: NDArray[Any],
        device: str,
        reference: NDArray[np.floating] | None = None,
        batch: int = _BATCH,
        judge: JudgeOf = Judge,
    ) -> None:
        """Takes float32 images (N, C, H, W), labels (N,), and the original's answers (N, ...) to compare with.

        Args:
            device: "cuda", "cuda:1", "cpu".
            batch: images that run at once.
            judge: who compares, as in OnnxEvaluator.
        """
        super().__init__(images, labels, reference, batch, judge)
        self._device = torch.device(device)
        self._images = as_on_device(torch.from_numpy(np.ascontiguousarray(images, np.float32)), self._device)

    def _answers(self, model: onnx.ModelProto, parts: Sequence[Places]) -> Generator[Images]:
        try:
            graph = TorchGraph(model, self._device)
            for part in parts:
                yield graph(self._images[torch.from_numpy(part).to(self._device)]).cpu().numpy()
        except GraphError as error:
            raise GraphError(f"{error}; set search.evaluator to 'onnxruntime'") from error

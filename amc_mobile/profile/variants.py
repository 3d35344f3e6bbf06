"""The networks that are timed: one network's graph at any policy, as the device gets it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import onnx

from amc_mobile.export.calibrate import activation_ranges
from amc_mobile.export.quantise import float_names, quantise
from amc_mobile.graph.batch import with_batch
from amc_mobile.graph.traced import TracedGraph, first_channels
from amc_mobile.measurements import DeviceInfo, NodeTime
from amc_mobile.profile.mapping import NodeMap, RowKey
from amc_mobile.types import Policy

_IMAGES = 2  # of noise, that give the int8 graphs some ranges: these do not change the time


class Variants:
    """Slices of one traced network in a device's precision and batch, and the table's row of each of their nodes.

    GPUs cast by themselves: for them fp16 and bf16 are float graphs too.
    """

    def __init__(self, traced: TracedGraph, device: DeviceInfo) -> None:
        self.traced = traced
        self._int8 = device.precision == "int8"
        self._batch = device.batch
        self._nodes = NodeMap(traced.model, traced.network)

    def model(self, policy: Policy) -> bytes:
        """The network at these widths as serialised ONNX; which channels stay does not change its time.

        Raises: GraphError if it cannot be quantised, or runs one image at a time only.
        """
        return self.finished(self.traced.slice(first_channels(policy)))

    def finished(self, model: onnx.ModelProto) -> bytes:
        """A float graph of batch 1, or a part of one, as the device gets it: in int8 good for its time only."""
        return self.sent(quantise(model, self._ranges) if self._int8 else model)

    def sent(self, model: onnx.ModelProto) -> bytes:
        """A graph that is in the device's precision already, as the device gets it."""
        if self._batch > 1:
            model = with_batch(model, self._batch)
        data: bytes = model.SerializeToString()
        return data

    def rows(self, nodes: Sequence[NodeTime]) -> dict[RowKey, tuple[float, ...]]:
        """Times of the table's rows, round by round, µs."""
        return self._nodes.rows([replace(node, outputs=float_names(node.outputs)) for node in nodes])

    @cached_property
    def _ranges(self) -> dict[str, tuple[float, float]]:
        noise = np.random.default_rng(0).standard_normal((_IMAGES, *self.traced.network.input_shape[1:]))
        return activation_ranges(self.traced.model, noise.astype(np.float32))

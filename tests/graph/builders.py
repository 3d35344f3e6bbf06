"""Small ONNX graphs, built by hand, and ways to run and prune them."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from amc_mobile.graph.traced import Channels, TracedGraph


class Builder:
    """Adds nodes one by one; every convolution and linear layer gets random weights."""

    def __init__(self, channels: int = 3, size: int = 8, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.shape = (1, channels, size, size)
        self.nodes: list[onnx.NodeProto] = []
        self.arrays: dict[str, np.ndarray] = {}

    def constant(self, name: str, values) -> str:
        self.arrays[name] = np.asarray(values)
        return name

    def op(self, op_type: str, *inputs: str, outputs: int = 1, **attributes):
        name = f"{op_type.lower()}{len(self.nodes)}"
        names = [name if outputs == 1 else f"{name}_{number}" for number in range(outputs)]
        self.nodes.append(helper.make_node(op_type, list(inputs), names, name=name, **attributes))
        return names[0] if outputs == 1 else names

    def conv(self, data: str, name: str, before: int, after: int, kernel: int = 3, group: int = 1, stride: int = 1):
        shape = (after, before // group, kernel, kernel)
        self.constant(f"{name}.weight", (self.random.standard_normal(shape) / np.sqrt(shape[1])).astype(np.float32))
        self.constant(f"{name}.bias", self.random.standard_normal(after).astype(np.float32))
        pads = [kernel // 2] * 4
        return self.op("Conv", data, f"{name}.weight", f"{name}.bias", group=group, pads=pads, strides=[stride] * 2)

    def linear(self, data: str, name: str, before: int, after: int):
        self.constant(f"{name}.weight", self.random.standard_normal((after, before)).astype(np.float32))
        self.constant(f"{name}.bias", self.random.standard_normal(after).astype(np.float32))
        return self.op("Gemm", data, f"{name}.weight", f"{name}.bias", transB=1)

    def ints(self, *values: int) -> str:
        return self.constant(f"ints{len(self.arrays)}", np.array(values, np.int64))

    def build(self, output: str) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "small",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
            [numpy_helper.from_array(array, name) for name, array in self.arrays.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def run(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: images})[0]


def random_channels(traced: TracedGraph, random: np.random.Generator) -> Channels:
    """A legal choice: at least one channel of every prunable group, all of the others."""
    return tuple(
        np.sort(random.choice(group.channels, random.integers(1, group.channels + 1), replace=False))
        if group.prunable
        else np.arange(group.channels)
        for group in traced.network.groups
    )


def images_for(traced: TracedGraph, random: np.random.Generator) -> np.ndarray:
    return random.standard_normal(traced.network.input_shape).astype(np.float32)


def relative_error(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max() / np.abs(other).max())

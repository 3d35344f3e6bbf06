"""int8 graphs: they answer nearly as the float ones, on the real runtime, and keep the names that rows are found by."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from amc_mobile.errors import GraphError
from amc_mobile.export.quantise import activation_ranges, float_names, quantise
from amc_mobile.graph.traced import first_channels
from tests.profile.networks import residual_network


def images(count: int = 4) -> np.ndarray:
    shape = residual_network().network.input_shape[1:]
    return np.random.default_rng(0).standard_normal((count, *shape)).astype(np.float32)


def answers(model: onnx.ModelProto, inputs: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {feed: image[None]})[0] for image in inputs])


def test_answers_stay_near_those_of_the_float_graph():
    model, inputs = residual_network().model, images()
    small = quantise(model, activation_ranges(model, inputs))
    wanted, found = answers(model, inputs), answers(small, inputs)
    assert np.abs(found - wanted).max() < 0.1 * np.ptp(wanted)
    assert not np.array_equal(found, wanted)
    weights = {item.name: item.data_type for item in small.graph.initializer}
    assert onnx.TensorProto.INT8 in weights.values()
    assert sum(node.op_type == "QuantizeLinear" for node in small.graph.node) > 5


def test_ranges_of_the_full_network_serve_its_slices():
    traced = residual_network()
    ranges = activation_ranges(traced.model, images())
    full = traced.network.full()
    groups = zip(traced.network.groups, full.kept, strict=True)
    half = [width // 2 if group.prunable else width for group, width in groups]
    sliced = traced.slice(first_channels(type(full)(tuple(half))))
    before = sliced.SerializeToString()
    small = quantise(sliced, ranges)
    assert sliced.SerializeToString() == before
    assert np.isfinite(answers(small, images(1))).all()


def test_ranges_hold_every_image():
    model, inputs = residual_network().model, images()
    both, first = activation_ranges(model, inputs), activation_ranges(model, inputs[:1])
    assert set(both) == set(first)
    assert all(both[name][0] <= first[name][0] <= first[name][1] <= both[name][1] for name in both)


def test_names_of_float_tensors_come_back():
    assert float_names(("a_QuantizeLinear_Output", "b_DequantizeLinear_Output", "c")) == ("a", "b", "c")


def test_what_cannot_be_quantised_is_one_line():
    model = onnx.ModelProto()
    model.CopyFrom(residual_network().model)
    with pytest.raises(GraphError, match="cannot quantise this network"):
        quantise(model, {})

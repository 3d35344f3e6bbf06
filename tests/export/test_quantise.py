"""int8 graphs: they answer nearly as the float ones, on the real runtime, and keep the names that rows are found by."""

from __future__ import annotations

from typing import get_args

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from amc_mobile.errors import GraphError
from amc_mobile.export.calibrate import activation_ranges, calibrate
from amc_mobile.export.from_onnx import adopt
from amc_mobile.export.quantise import _rounded_weights, float_names, in_int8, quantise, with_corrected_biases
from amc_mobile.graph.traced import first_channels
from amc_mobile.types import RangeMethod
from tests.export.test_from_onnx import network as foreign
from tests.graph.builders import Builder
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


def two_heads(gain: float) -> Builder:
    """The heads of a detector: two convolutions of one input, the first `gain` times as strong, end in one Concat."""
    net = Builder(channels=4, size=6)
    heads = [net.conv("input", name, 4, 8) for name in ("scores", "offsets")]
    for name in ("scores.weight", "scores.bias"):
        net.arrays[name] = net.arrays[name] * np.float32(gain)
    rows = [net.op("Transpose", net.op("Reshape", head, net.ints(1, 8, 36)), perm=[0, 2, 1]) for head in heads]
    net.op("Concat", *rows, axis=2)
    return net


def test_heads_of_different_ranges_keep_scales_of_their_own():
    """Within a range that both share, the weaker of two heads would be rounded to a few levels."""
    net = two_heads(gain=100.0)
    model = net.build(net.nodes[-1].output[0])
    inputs = np.random.default_rng(1).standard_normal((3, 4, 6, 6)).astype(np.float32)
    wanted, found = answers(model, inputs), answers(quantise(model, activation_ranges(model, inputs)), inputs)
    for head in (slice(0, 8), slice(8, 16)):
        assert np.abs(found[..., head] - wanted[..., head]).max() < 0.03 * np.ptp(wanted[..., head])


@pytest.mark.parametrize("named", [True, False])
def test_nodes_that_assemble_the_outputs_are_float(named):
    net = two_heads(gain=1.0)
    model = net.build(net.nodes[-1].output[0])
    for node in model.graph.node:
        node.name = node.name if named else ""
    small = quantise(model, activation_ranges(model, np.ones((1, 4, 6, 6), np.float32)))
    assert float_ops(small) == {"Reshape", "Transpose", "Concat"}
    assert len([node for node in small.graph.node if node.op_type == "QuantizeLinear"]) == 3  # input and two heads
    assert [item.name for item in small.graph.output] == [item.name for item in model.graph.output]


@pytest.mark.parametrize("named", [True, False])
def test_layers_that_share_a_bias_round_it_each_on_their_own(named):
    """Written files share arrays and leave names out; by name ONNX Runtime's quantiser tells the readers apart."""
    net = Builder(channels=4, size=6)
    first = net.linear(net.op("Flatten", net.op("GlobalAveragePool", "input")), "shared", 4, 4)
    strong = net.op("Mul", first, net.constant("factor", np.full((1, 4), 40.0, np.float32)))
    second = net.op("Gemm", strong, "shared.weight", "shared.bias", transB=1)
    model = net.build(net.op("Concat", first, second, axis=1))
    for node in model.graph.node:
        node.name = node.name if named else ""
    inputs = np.random.default_rng(1).standard_normal((3, 4, 6, 6)).astype(np.float32)
    wanted, found = answers(model, inputs), answers(quantise(model, activation_ranges(model, inputs)), inputs)
    for part in (slice(0, 4), slice(4, 8)):
        assert np.abs(found[:, part] - wanted[:, part]).max() < 0.03 * np.ptp(wanted[:, part])


@pytest.mark.parametrize("opset", [11, 12])
def test_an_older_file_is_converted_and_keeps_its_names(opset):
    model = adopt(foreign(opset))
    inputs = np.random.default_rng(1).standard_normal((3, 3, 8, 8)).astype(np.float32)
    small = in_int8(model, inputs)
    assert model.opset_import[0].version == opset
    assert np.abs(answers(small, inputs) - answers(model, inputs)).max() < 0.05 * np.ptp(answers(model, inputs))
    tensors = float_names(tuple(name for node in small.graph.node for name in (*node.input, *node.output)))
    assert {item.name for item in model.graph.initializer} < set(tensors)


def test_a_concatenation_that_a_layer_reads_is_int8_though_it_is_an_output_too():
    net = two_heads(gain=1.0)
    both = net.nodes[-1].output[0]
    last = net.op("Flatten", net.op("MatMul", both, net.constant("w", np.ones((16, 3), np.float32))))
    model = net.build(last)
    model.graph.output.append(onnx.helper.make_tensor_value_info(both, onnx.TensorProto.FLOAT, None))
    small = quantise(model, activation_ranges(model, np.ones((1, 4, 6, 6), np.float32)))
    assert float_ops(small) == {"Flatten"}


def float_ops(quantised: onnx.ModelProto) -> set[str]:
    """The kinds of nodes whose answers are not rounded to int8."""
    rounded = {node.input[0] for node in quantised.graph.node if node.op_type == "QuantizeLinear"}
    nodes = [node for node in quantised.graph.node if node.op_type not in ("QuantizeLinear", "DequantizeLinear")]
    return {node.op_type for node in nodes if not rounded.intersection(node.output)}


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


def test_a_corrected_bias_takes_the_mean_error_of_rounded_weights_away():
    """Unpadded layers are exact: their mean output over the images is that of the float network again.

    Only the weights are rounded here; activations stay float, so that nothing else is in the way.
    """
    net = Builder(channels=4, size=6)
    data = net.conv("input", "first", 4, 8, kernel=1)
    data = net.conv(data, "deep", 8, 8, kernel=1, group=8)
    model = net.build(net.linear(net.op("Flatten", net.op("GlobalAveragePool", data)), "last", 8, 3))
    inputs = np.random.default_rng(1).uniform(0.0, 2.0, (6, 4, 6, 6)).astype(np.float32)
    calibration = calibrate(model, inputs)
    rounded = quantise(model, calibration.ranges)
    corrected = with_corrected_biases(model, rounded, calibration.means)
    wanted = answers(model, inputs).mean(axis=0)
    plain, better = (answers(_with_weights_of(rounded, each), inputs).mean(axis=0) for each in (model, corrected))
    assert np.abs(better - wanted).max() < 0.1 * np.abs(plain - wanted).max()


def _with_weights_of(rounded: onnx.ModelProto, model: onnx.ModelProto) -> onnx.ModelProto:
    """The float network with the weights that the quantised one has."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for item in copy.graph.initializer:
        if item.name in (weights := _rounded_weights(rounded)):
            item.CopyFrom(numpy_helper.from_array(weights[item.name].astype(np.float32), item.name))
    return copy


@pytest.mark.parametrize("method", get_args(RangeMethod))
def test_every_method_gives_a_network_that_answers_nearly_the_same(method):
    model, inputs = residual_network().model, images(8)
    wanted, found = answers(model, inputs), answers(in_int8(model, inputs, method), inputs)
    assert np.abs(found - wanted).max() < 0.1 * np.ptp(wanted)


def test_auto_is_the_method_that_answers_most_like_the_float_network():
    """One value is a hundred times as large as all others, which does not show behind the last node: it saturates."""
    net = Builder(channels=1, size=60)
    model = net.build(net.op("HardSigmoid", net.conv("input", "last", 1, 2, kernel=1)))
    inputs = np.random.default_rng(0).uniform(0.0, 1.0, (6, 1, 60, 60)).astype(np.float32)
    inputs[3, 0, 5, 5] = 100.0
    wanted = answers(model, inputs)
    made = {method: in_int8(model, inputs, method) for method in get_args(RangeMethod)}
    errors = {method: np.square(answers(each, inputs) - wanted).mean() for method, each in made.items()}
    best = min(errors, key=errors.__getitem__)
    assert best != "minmax"
    assert in_int8(model, inputs, "auto").SerializeToString() == made[best].SerializeToString()


def test_the_same_images_give_the_same_file():
    model, inputs = residual_network().model, images()
    assert in_int8(model, inputs, "mse").SerializeToString() == in_int8(model, inputs, "mse").SerializeToString()


def test_methods_leave_out_what_is_far_away():
    """One value in 36,000 is a hundred times as large as the others: only "minmax" spends its levels on it."""
    net = Builder(channels=1, size=60)
    model = net.build(net.linear(net.op("Flatten", net.op("GlobalAveragePool", net.op("Relu", "input"))), "last", 1, 2))
    inputs = np.random.default_rng(0).uniform(0.0, 1.0, (10, 1, 60, 60)).astype(np.float32)
    inputs[3, 0, 5, 5] = 100.0
    high = {method: calibrate(model, inputs, method).ranges["input"][1] for method in get_args(RangeMethod)}
    assert high["minmax"] == 100.0
    assert high["percentile"] < 2.0
    assert high["mse"] < 40.0


def test_a_range_holds_zero_and_every_image():
    model, inputs = residual_network().model, images()
    both, first = activation_ranges(model, inputs), activation_ranges(model, inputs[:1])
    assert set(both) == set(first)
    assert all(both[name][0] <= first[name][0] <= 0.0 <= first[name][1] <= both[name][1] for name in both)


def test_names_of_float_tensors_come_back():
    assert float_names(("a_QuantizeLinear_Output", "b_DequantizeLinear_Output", "c")) == ("a", "b", "c")


def test_what_cannot_be_quantised_is_one_line():
    model = onnx.ModelProto()
    model.CopyFrom(residual_network().model)
    with pytest.raises(GraphError, match="cannot quantise this network"):
        quantise(model, {})

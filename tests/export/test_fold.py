"""Folding on hand-made graphs: the arithmetic, and when it must not happen."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from amc_mobile.errors import GraphError
from amc_mobile.export.constants import Stored, drop_unused, fold_constants
from amc_mobile.export.fold import fold_batch_norms, module_of
from amc_mobile.export.sequences import split_sequences
from amc_mobile.export.tensor_types import record_types, tensor_types


def graph(nodes, arrays, shape=(1, 3, 4, 4)):
    """A model from "input" to "logits"."""
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in arrays.items()]
    return helper.make_model(
        helper.make_graph(
            nodes,
            "test",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
            tensors,
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )


def run(model, shape=(1, 3, 4, 4)):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"input": np.random.default_rng(0).standard_normal(shape).astype(np.float32)})[0]


def floats(generator, *shape):
    return generator.standard_normal(shape).astype(np.float32)


def norm_arrays(generator, channels):
    return {
        "bn.weight": floats(generator, channels),
        "bn.bias": floats(generator, channels),
        "bn.running_mean": floats(generator, channels),
        "bn.running_var": generator.uniform(0.1, 3, channels).astype(np.float32),
    }


def norm_node(source, target="logits", **attributes):
    names = ["bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"]
    return helper.make_node("BatchNormalization", [source, *names], [target], **attributes)


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.booleans(), st.sampled_from([1, 3]), st.sampled_from([1e-5, 1e-3]))
def test_a_folded_convolution_is_equal(seed, biased, groups, epsilon):
    generator = np.random.default_rng(seed)
    arrays = {"c.weight": floats(generator, 6, 3 // groups, 3, 3)} | norm_arrays(generator, 6)
    if biased:
        arrays["c.bias"] = floats(generator, 6)
    conv = helper.make_node("Conv", ["input", *[name for name in arrays if name[0] == "c"]], ["y"], group=groups)
    model = graph([conv, norm_node("y", epsilon=epsilon)], arrays)
    before = run(model)
    assert fold_batch_norms(model) == {"c": "bn"}
    assert [node.op_type for node in model.graph.node] == ["Conv"]
    np.testing.assert_allclose(run(model), before, atol=2e-5 * np.abs(before).max())


@pytest.mark.parametrize("transposed", [0, 1])
def test_a_folded_linear_layer_is_equal(transposed):
    generator = np.random.default_rng(3)
    arrays = {"fc.weight": floats(generator, *((6, 3) if transposed else (3, 6)))} | norm_arrays(generator, 6)
    model = graph(
        [helper.make_node("Gemm", ["input", "fc.weight"], ["y"], transB=transposed), norm_node("y")], arrays, (1, 3)
    )
    before = run(model, (1, 3))
    assert fold_batch_norms(model) == {"fc": "bn"}
    np.testing.assert_allclose(run(model, (1, 3)), before, rtol=1e-5)


def test_a_scaled_gemm_is_left_alone():
    generator = np.random.default_rng(3)
    arrays = {"fc.weight": floats(generator, 3, 6)} | norm_arrays(generator, 6)
    model = graph([helper.make_node("Gemm", ["input", "fc.weight"], ["y"], alpha=2.0), norm_node("y")], arrays, (1, 3))
    assert fold_batch_norms(model) == {}


def test_a_chain_of_norms_is_folded_one_into_the_other():
    """conv, bn, bn: the second one follows the convolution as soon as the first is folded."""
    generator = np.random.default_rng(4)
    arrays = {"c.weight": floats(generator, 5, 3, 1, 1)} | norm_arrays(generator, 5)
    second = {name.replace("bn", "bn2"): value for name, value in norm_arrays(generator, 5).items()}
    nodes = [helper.make_node("Conv", ["input", "c.weight"], ["y"]), norm_node("y", "z")]
    nodes.append(helper.make_node("BatchNormalization", ["z", *second], ["logits"]))
    model = graph(nodes, arrays | second)
    before = run(model)
    fold_batch_norms(model)
    np.testing.assert_allclose(run(model), before, rtol=1e-4, atol=1e-5)


def test_module_of_a_parameter():
    assert module_of("features.0.0.weight") == "features.0.0"
    assert module_of("W1") == "W1"


def test_constants_are_computed_once():
    nodes = [
        helper.make_node("Constant", [], ["two"], value_float=2.0),
        helper.make_node("Shape", ["input"], ["shape"]),
        helper.make_node("Expand", ["two", "shape"], ["twos"]),
        helper.make_node("Identity", ["input"], ["same"]),
        helper.make_node("Mul", ["same", "twos"], ["logits"]),
    ]
    model = graph(nodes, {"unused": np.ones(3, np.float32)})
    before = run(model)
    assert fold_constants(model) == Stored({}, {})
    assert [node.op_type for node in model.graph.node] == ["Mul"]
    assert [tensor.name for tensor in model.graph.initializer] == ["twos"]
    np.testing.assert_array_equal(run(model), before)


def test_scalars_stay_scalars():
    nodes = [
        helper.make_node("Constant", [], ["low"], value_float=0.0),
        helper.make_node("CastLike", ["low", "input"], ["bound"]),
        helper.make_node("Clip", ["input", "bound"], ["logits"]),
    ]
    model = graph(nodes, {})
    fold_constants(model)
    assert [tuple(tensor.dims) for tensor in model.graph.initializer] == [()]


def test_random_numbers_are_not_folded():
    nodes = [
        helper.make_node("RandomNormal", [], ["noise"], shape=[1, 3, 4, 4]),
        helper.make_node("Add", ["input", "noise"], ["logits"]),
    ]
    model = graph(nodes, {})
    fold_constants(model)
    assert [node.op_type for node in model.graph.node] == ["RandomNormal", "Add"]


def test_a_weight_used_both_ways_is_stored_both_ways():
    weight = np.arange(9, dtype=np.float32).reshape(3, 3)
    nodes = [
        helper.make_node("Transpose", ["w.weight"], ["turned"]),
        helper.make_node("MatMul", ["input", "turned"], ["y"]),
        helper.make_node("MatMul", ["y", "w.weight"], ["logits"]),
    ]
    model = graph(nodes, {"w.weight": weight}, (2, 3))
    before = run(model, (2, 3))
    assert fold_constants(model) == Stored({"turned": "w.weight"}, {})
    assert sorted(tensor.name for tensor in model.graph.initializer) == ["turned", "w.weight"]
    np.testing.assert_allclose(run(model, (2, 3)), before, rtol=1e-6)


def test_a_stretched_parameter_keeps_its_name():
    nodes = [
        helper.make_node("Unsqueeze", ["gamma", "first"], ["higher"]),
        helper.make_node("Unsqueeze", ["higher", "last"], ["scale"]),
        helper.make_node("Mul", ["input", "scale"], ["logits"]),
    ]
    arrays = {"gamma": np.arange(3, dtype=np.float32), "first": np.asarray([0]), "last": np.asarray([2, 3])}
    model = graph(nodes, arrays)
    assert fold_constants(model) == Stored({}, {"gamma": "gamma"})
    assert [(tensor.name, list(tensor.dims)) for tensor in model.graph.initializer] == [("gamma", [1, 3, 1, 1])]


def test_a_constant_that_cannot_be_computed_is_named():
    nodes = [
        helper.make_node("Reshape", ["w", "shape"], ["y"], name="bad/Reshape"),
        helper.make_node("Add", ["input", "y"], ["logits"]),
    ]
    model = graph(nodes, {"w": np.ones(3, np.float32), "shape": np.asarray([2, 2], np.int64)})
    with pytest.raises(GraphError, match="bad/Reshape"):
        fold_constants(model)


def test_a_pool_of_one_pixel_is_taken_out_and_a_real_one_is_not():
    nodes = [
        helper.make_node("AveragePool", ["input"], ["y"], kernel_shape=[1, 1], strides=[1, 1]),
        helper.make_node("AveragePool", ["y"], ["z"], kernel_shape=[1, 1], strides=[2, 2]),
        helper.make_node("AveragePool", ["z"], ["logits"], kernel_shape=[2, 2]),
    ]
    model = graph(nodes, {})
    before = run(model)
    fold_constants(model)
    assert len(model.graph.node) == 2
    np.testing.assert_array_equal(run(model), before)


def test_dead_nodes_are_dropped():
    nodes = [
        helper.make_node("Relu", ["input"], ["dead"]),
        helper.make_node("Add", ["dead", "w"], ["dead2"]),
        helper.make_node("Neg", ["input"], ["logits"]),
    ]
    model = graph(nodes, {"w": np.ones(1, np.float32)})
    drop_unused(model)
    assert [node.op_type for node in model.graph.node] == ["Neg"]
    assert not model.graph.initializer


@pytest.mark.parametrize(("split", "widths"), [(np.asarray(2), [2, 2, 1]), (np.asarray([1, 4]), [1, 4])])
def test_sequences_become_a_split(split, widths):
    last = len(widths) - 1
    nodes = [
        helper.make_node("SplitToSequence", ["input", "split"], ["pieces"], axis=1),
        helper.make_node("SequenceAt", ["pieces", "first"], ["a"]),
        helper.make_node("SequenceAt", ["pieces", "last"], ["b"]),
        helper.make_node("Concat", ["b", "a"], ["logits"], axis=1),
    ]
    arrays = {"split": split.astype(np.int64), "first": np.asarray(0, np.int64), "last": np.asarray(last, np.int64)}
    model = graph(nodes, arrays, (1, 5))
    before = run(model, (1, 5))
    split_sequences(model)
    assert [node.op_type for node in model.graph.node] == ["Split", "Concat"]
    assert len(model.graph.node[0].output) == len(widths)
    np.testing.assert_array_equal(run(model, (1, 5)), before)


def test_types_are_recorded_without_the_weights():
    model = graph(
        [helper.make_node("Conv", ["input", "w"], ["y"]), helper.make_node("Relu", ["y"], ["logits"])],
        {"w": np.ones((2, 3, 1, 1), np.float32)},
    )
    record_types(model)
    assert tensor_types(model)["y"].shape == (1, 2, 4, 4)
    assert tensor_types(model)["w"].dtype == np.float32


def test_a_new_bias_takes_nobody_elses_name():
    generator = np.random.default_rng(5)
    arrays = {"c.weight": floats(generator, 5, 3, 1, 1), "c.bias": floats(generator, 1, 5, 1, 1)}
    nodes = [
        helper.make_node("Conv", ["input", "c.weight"], ["y"]),
        norm_node("y", "z"),
        helper.make_node("Add", ["z", "c.bias"], ["logits"]),
    ]
    model = graph(nodes, arrays | norm_arrays(generator, 5))
    before = run(model)
    fold_batch_norms(model)
    np.testing.assert_allclose(run(model), before, rtol=1e-4, atol=1e-5)

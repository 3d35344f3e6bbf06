"""Torch and ONNX Runtime run the same graph: equal logits, equal scores, every operator as it is defined."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from amc_mobile.device.torch_graph import TorchGraph
from amc_mobile.device.torch_operators import OPERATORS
from amc_mobile.errors import GraphError
from amc_mobile.export.to_onnx import export
from amc_mobile.graph.trace import trace
from amc_mobile.models.evaluation import OnnxEvaluator, open_evaluator
from amc_mobile.models.torch_evaluation import TorchEvaluator
from amc_mobile.trials import Race
from amc_mobile.types import Policy

SMALL = [
    ("digits", (1, 32, 32)),
    ("resnet20", (3, 32, 32)),
    ("mobilenet_v2", (3, 64, 64)),
    ("mobilenet_v3_small", (3, 64, 64)),
    ("shufflenet_v2_x0_5", (3, 64, 64)),
]
LARGE = [
    ("convnext_tiny", (3, 64, 64)),
    ("vit_b_16", (3, 224, 224)),
    ("swin_t", (3, 64, 64)),
    ("googlenet", (3, 96, 96)),
    ("densenet121", (3, 64, 64)),
    ("regnet_y_400mf", (3, 64, 64)),
    ("inception_v3", (3, 128, 128)),
]


def lively(shared):
    """A copy without the zeros and near-zeros that some networks begin with: pruning must change its answers."""
    module = copy.deepcopy(shared)
    for part in [part for part in module.modules() if isinstance(part, torch.nn.Linear)][-1:]:
        torch.nn.init.normal_(part.weight, std=0.1)
    for name, parameter in module.named_parameters():
        if name.endswith("layer_scale"):
            torch.nn.init.ones_(parameter)
    return module


def compare(shared, shape, device="cpu", count=5):
    """A pruned network by both evaluators, with batches that do not fit the images."""
    module = lively(shared)
    traced = trace(export(module, shape), "network")
    groups = traced.network.groups
    kept = tuple(max(1, group.channels // 2) if group.prunable else group.channels for group in groups)
    model = traced.slice(tuple(np.arange(width) for width in Policy(kept).kept))
    images = np.random.default_rng(0).standard_normal((count, *shape)).astype(np.float32)
    reference = OnnxEvaluator(images, np.zeros(count, int), 1).logits(traced.model)
    labels = reference.argmax(axis=1)
    exact, torched = OnnxEvaluator(images, labels, 1, reference), TorchEvaluator(images, labels, device, reference, 3)
    wanted, logits = exact.logits(model), torched.logits(model)
    assert np.abs(wanted - logits).max() < 1e-4 * np.abs(wanted).max()
    assert torched.score(model).kl == pytest.approx(exact.score(model).kl, rel=1e-3)
    race = Race("kl", -1e-9)
    assert torched.score(model, race).images == exact.score(model, race).images == 1
    np.testing.assert_array_equal(logits, torched.logits(model))


@pytest.mark.parametrize(("name", "shape"), SMALL)
def test_a_pruned_network_answers_as_in_onnx_runtime(name, shape, module_of):
    compare(module_of(name), shape)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "shape"), LARGE)
def test_a_large_pruned_network_answers_as_in_onnx_runtime(name, shape, module_of):
    compare(module_of(name), shape)


@pytest.mark.gpu
@pytest.mark.parametrize(("name", "shape"), SMALL)
def test_a_pruned_network_answers_on_a_gpu_as_in_onnx_runtime(name, shape, module_of):
    compare(module_of(name), shape, "cuda")


def drawn(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def whole(*values):
    return np.asarray(values, np.int64)


X = drawn(2, 6, 7, 7)
CASES = [
    ("Conv", [X, drawn(4, 3, 3, 3), drawn(4)], {"group": 2, "pads": [1, 0, 2, 1], "strides": [2, 1]}),
    ("Conv", [X, drawn(4, 6, 3, 3)], {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ("Conv", [X, drawn(4, 6, 2, 2)], {"auto_pad": "SAME_LOWER", "dilations": [2, 2]}),
    ("Conv", [X, drawn(4, 6, 3, 3)], {"auto_pad": "VALID"}),
    ("Conv", [drawn(2, 6, 9), drawn(4, 6, 3)], {"pads": [1, 1]}),
    ("Gemm", [drawn(3, 4), drawn(5, 3), drawn(5)], {"transA": 1, "transB": 1, "alpha": 0.5, "beta": 2.0}),
    ("Gemm", [drawn(3, 4), drawn(4, 5)], {}),
    ("MatMul", [drawn(2, 3, 4, 5), drawn(2, 3, 5, 6)], {}),
    ("MaxPool", [X], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ("MaxPool", [X], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 0, 1, 1]}),
    ("MaxPool", [X], {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
    ("AveragePool", [X], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    ("AveragePool", [X], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    ("AveragePool", [X], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 0, 1, 1]}),
    ("GlobalAveragePool", [X], {}),
    ("GlobalMaxPool", [X], {}),
    ("BatchNormalization", [X, drawn(6), drawn(6) + 1, drawn(6) + 2, np.abs(drawn(6)) + 0.5], {"epsilon": 0.01}),
    ("LayerNormalization", [drawn(2, 5, 8), drawn(8), drawn(8) + 1], {"epsilon": 1e-3}),
    ("LayerNormalization", [drawn(2, 5, 8), drawn(5, 8)], {"axis": 1}),
    ("InstanceNormalization", [X, drawn(6), drawn(6) + 1], {}),
    ("Clip", [X, np.float32(-0.5), np.float32(0.7)], {}),
    ("Clip", [X, None, np.float32(0.7)], {}),
    ("HardSigmoid", [X], {"alpha": 0.3, "beta": 0.4}),
    ("HardSwish", [X], {}),
    ("Gelu", [X], {}),
    ("Gelu", [X], {"approximate": "tanh"}),
    ("Erf", [X], {}),
    ("Elu", [X], {"alpha": 0.7}),
    ("LeakyRelu", [X], {"alpha": 0.2}),
    ("PRelu", [X, drawn(6, 1, 1)], {}),
    ("Softplus", [X], {}),
    ("Softmax", [X], {"axis": 1}),
    ("LogSoftmax", [X], {}),
    ("Sigmoid", [X], {}),
    ("Where", [X > 0, X, 2 * X], {}),
    ("Max", [X, -X, 0.5 * X], {}),
    ("Min", [X, -X], {}),
    ("Sum", [X, X, X], {}),
    ("Pow", [np.abs(X), np.float32(1.5)], {}),
    ("Cast", [X > 0], {"to": TensorProto.FLOAT}),
    ("ReduceMean", [X, whole(2, 3)], {"keepdims": 0}),
    ("ReduceSum", [X, whole(-1)], {}),
    ("ReduceSum", [X], {"noop_with_empty_axes": 1}),
    ("ReduceSum", [X], {"keepdims": 0}),
    ("ReduceMax", [X, whole(1)], {}),
    ("ReduceMin", [X, whole(1)], {}),
    ("ReduceL2", [X, whole(1)], {}),
    ("Reshape", [X, whole(0, 2, -1)], {}),
    ("Flatten", [X], {"axis": 2}),
    ("Flatten", [X], {"axis": -3}),
    ("Transpose", [X], {"perm": [0, 2, 3, 1]}),
    ("Transpose", [X], {}),
    ("Squeeze", [drawn(2, 1, 3, 1), whole(1)], {}),
    ("Squeeze", [drawn(2, 1, 3, 1)], {}),
    ("Unsqueeze", [drawn(2, 3), whole(0, -1)], {}),
    ("Concat", [X, 2 * X], {"axis": 1}),
    ("Slice", [X, whole(1, -3), whole(9, -1), whole(1, 3), whole(2, 1)], {}),
    ("Slice", [X, whole(-1), whole(-(2**40)), whole(2), whole(-2)], {}),
    ("Slice", [X, whole(0, 2), whole(1, 4)], {}),
    ("Slice", [X, whole(5), whole(2), whole(3)], {}),
    ("Pad", [X, whole(0, 1, 2, 0, 0, 3, 0, 1), np.float32(0.5)], {}),
    ("Pad", [X, whole(1, 2), None, whole(-1)], {}),
    ("Gather", [X, whole(3, 0, -1)], {"axis": 1}),
    ("Gather", [X, np.asarray(2)], {"axis": 2}),
    ("Expand", [drawn(2, 1, 3), whole(1, 4, 1)], {}),
    ("Mod", [whole(-5, 5), whole(3)], {}),
    ("Mod", [X, np.float32(0.7)], {"fmod": 1}),
    ("Shape", [X], {}),
    ("Shape", [X], {"start": 1, "end": -1}),
    ("DepthToSpace", [drawn(2, 8, 3, 3)], {"blocksize": 2}),
    ("DepthToSpace", [drawn(2, 8, 3, 3)], {"blocksize": 2, "mode": "CRD"}),
    *[(name, [X], {}) for name in ("Abs", "Exp", "Floor", "Identity", "Neg", "Reciprocal", "Relu", "Tanh")],
    *[(name, [np.abs(X)], {}) for name in ("Log", "Sqrt", "Dropout")],
    *[(name, [X, drawn(6, 1, 1)], {}) for name in ("Add", "Sub", "Mul", "Div")],
]


def graph_of(op, inputs, attributes, outputs=1):
    """One node; its first input is the graph's, the others are stored."""
    names = ["" if array is None else f"i{place}" for place, array in enumerate(inputs)]
    answers = [f"o{place}" for place in range(outputs)]
    kind = helper.np_dtype_to_tensor_dtype(inputs[0].dtype)
    stored = [
        numpy_helper.from_array(np.asarray(array), name) for array, name in zip(inputs, names, strict=True) if name
    ][1:]
    return helper.make_model(
        helper.make_graph(
            [helper.make_node(op, names, answers, name="node", **attributes)],
            "single",
            [helper.make_tensor_value_info("i0", kind, inputs[0].shape)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in answers],
            stored,
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )


@pytest.mark.parametrize(("op", "inputs", "attributes"), CASES)
def test_an_operator_is_that_of_the_definition(op, inputs, attributes):
    model = graph_of(op, inputs, attributes)
    wanted = ReferenceEvaluator(model).run(None, {"i0": inputs[0]})[0]
    answer = TorchGraph(model, torch.device("cpu"))(torch.from_numpy(inputs[0])).numpy()
    np.testing.assert_allclose(answer, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("attributes", [{"num_outputs": 3, "axis": 1}, {"axis": 1}])
def test_split(attributes):
    sizes = [] if "num_outputs" in attributes else [whole(1, 3, 2)]
    model = graph_of("Split", [X, *sizes], attributes, outputs=3)
    for output in range(3):
        model.graph.output[0].name = f"o{output}"
        wanted = ReferenceEvaluator(model).run([f"o{output}"], {"i0": X})[0]
        np.testing.assert_array_equal(TorchGraph(model, torch.device("cpu"))(torch.from_numpy(X)).numpy(), wanted)


def test_every_operator_is_tested():
    assert set(OPERATORS) - {op for op, _, _ in CASES} == {"Split"}


@pytest.mark.parametrize(
    ("op", "attributes", "message"),
    [("Nonsense", {}, "Nonsense node: this operator"), ("Pad", {"mode": "reflect"}, "Pad node: mode reflect")],
)
def test_what_is_not_implemented_is_said_in_one_line(op, attributes, message):
    with pytest.raises(GraphError, match=message) as caught:
        TorchGraph(graph_of(op, [X, whole(0, 0, 1, 1, 0, 0, 1, 1)], attributes), torch.device("cpu"))(
            torch.from_numpy(X)
        )
    assert "\n" not in str(caught.value)


def test_what_torch_cannot_run_is_said_in_one_line():
    graph = TorchGraph(graph_of("MatMul", [X, drawn(3, 3)], {}), torch.device("cpu"))
    with pytest.raises(GraphError, match="torch cannot run MatMul node") as caught:
        graph(torch.from_numpy(X))
    assert "\n" not in str(caught.value)


def test_evaluators_by_name(monkeypatch):
    images, labels = drawn(2, 1, 4, 4), np.zeros(2, int)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert isinstance(open_evaluator(images, labels), OnnxEvaluator)
    assert isinstance(open_evaluator(images, labels, name="onnxruntime"), OnnxEvaluator)
    assert isinstance(open_evaluator(images, labels, name="torch"), TorchEvaluator)

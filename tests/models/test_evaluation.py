"""Scores of networks: exact, the same every time, and never fooled by a broken network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from scipy.special import softmax

from amc_mobile.errors import DataError, GraphError
from amc_mobile.models import evaluation
from amc_mobile.models.evaluation import OnnxEvaluator
from amc_mobile.trials import Race

CLASSES = 7


def linear(weight, reshape=None):
    """Logits = flattened image @ weight, for images (1, 1, 2, 2); `reshape` stands in front of it."""
    arrays = {"weight": weight.astype(np.float32), "shape": np.asarray(reshape or [1, 4], np.int64)}
    nodes = [
        helper.make_node("Reshape", ["input", "shape"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 1, 2, 2])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, weight.shape[1]])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def images(count):
    return np.random.default_rng(0).standard_normal((count, 1, 2, 2)).astype(np.float32)


WEIGHT = np.random.default_rng(1).standard_normal((4, CLASSES))


@pytest.mark.parametrize("count", [1, 3, 4, 9])
@pytest.mark.parametrize("threads", [1, 3])
def test_logits_are_those_of_every_image_in_order(count, threads):
    x = images(count)
    logits = OnnxEvaluator(x, np.zeros(count, int), threads).logits(linear(WEIGHT))
    np.testing.assert_allclose(logits, x.reshape(count, 4) @ WEIGHT, rtol=1e-5, atol=1e-6)


def test_answers_that_do_not_fit_into_memory_are_told_before_they_are_kept(monkeypatch):
    evaluator = OnnxEvaluator(images(9), np.zeros(9, int), 1)
    monkeypatch.setattr(evaluation, "free_bytes", lambda: 9 * CLASSES * 4)
    with pytest.raises(DataError, match=r"answers to 9 images take .*lower data\.search_images"):
        evaluator.logits(linear(WEIGHT))
    monkeypatch.setattr(evaluation, "free_bytes", lambda: None)  # a system that does not tell
    assert evaluator.logits(linear(WEIGHT)).shape == (9, CLASSES)


def test_a_real_network_scores_as_in_torch(module_of, exported):
    x = np.random.default_rng(2).standard_normal((6, 1, 32, 32)).astype(np.float32)
    with torch.inference_mode():
        expected = module_of("digits")(torch.from_numpy(x)).numpy()
    labels = expected.argmax(axis=1)
    labels[0] = expected[0].argsort()[-2]  # the second best: right for top-5 only
    evaluator = OnnxEvaluator(x, labels, reference=expected)
    score = evaluator.score(exported("digits"))
    assert (score.top1, score.top5, score.images) == (5 / 6, 1.0, 6)
    assert abs(score.kl) < 1e-6
    np.testing.assert_array_equal(evaluator.logits(exported("digits")), evaluator.logits(exported("digits")))


def test_divergence_is_that_of_the_formula():
    x, other = images(5), WEIGHT + 0.3 * np.random.default_rng(4).standard_normal(WEIGHT.shape)
    reference = x.reshape(5, 4) @ WEIGHT
    score = OnnxEvaluator(x, np.zeros(5, int), 1, reference).score(linear(other))
    p, q = softmax(reference, axis=1), softmax(x.reshape(5, 4) @ other, axis=1)
    assert score.kl == pytest.approx(float(np.mean(np.sum(p * np.log(p / q), axis=1))), rel=1e-5)
    assert score.kl > 0
    assert OnnxEvaluator(x, np.zeros(5, int), 1).score(linear(other)).kl == 0.0


@pytest.mark.parametrize("threads", [1, 3])
def test_a_lost_race_ends_early_and_alike_whatever_the_number_of_threads(threads):
    """Hard images come first; the score is what the outcomes of all images say about the race."""
    x, labels = images(400), np.random.default_rng(5).integers(CLASSES, size=400)
    evaluator = OnnxEvaluator(x, labels, threads, x.reshape(400, 4) @ WEIGHT)
    full, race = evaluator.outcomes(linear(WEIGHT)), Race("top1", -0.2)
    score = evaluator.score(linear(WEIGHT), race)
    assert score == full.score(race)
    assert score.images < 400 < score.images / 0.2
    assert score.top1 - 1.0 < race.to_beat
    assert len(evaluator.outcomes(linear(WEIGHT), race).ranks) < score.images + 32
    assert evaluator.score(linear(WEIGHT), Race("top1", -1.0)) == evaluator.score(linear(WEIGHT)) == full.score()


@given(st.lists(st.integers(-3, 3), min_size=CLASSES, max_size=CLASSES), st.integers(0, CLASSES - 1))
def test_ties_are_broken_as_argmax_breaks_them(values, label):
    weight = np.tile(np.asarray(values, float), (4, 1))
    score = OnnxEvaluator(np.full((1, 1, 2, 2), 0.25, np.float32), np.asarray([label]), 1).score(linear(weight))
    best = np.argsort(-np.asarray(values), kind="stable")
    assert (score.top1, score.top5) == (float(best[0] == label), float(label in best[:5]))


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_a_dead_network_scores_by_chance_and_finitely(value):
    labels = np.arange(14) % CLASSES
    reference = images(14).reshape(14, 4) @ WEIGHT
    score = OnnxEvaluator(images(14), labels, 1, reference).score(linear(np.full((4, CLASSES), value)))
    assert score.top1 == pytest.approx(1 / CLASSES)
    assert np.isfinite(score.kl)


def test_a_network_for_one_image_is_run_one_by_one():
    """A Reshape that merges the batch axis cannot take four images at once."""
    fixed = linear(WEIGHT[:2], reshape=[2, 2])  # one image becomes two rows
    nodes = fixed.graph.node
    nodes[1].output[0] = "rows"
    nodes.append(helper.make_node("ReduceSum", ["rows", "axis"], ["logits"], keepdims=1))
    fixed.graph.initializer.append(numpy_helper.from_array(np.asarray([0], np.int64), "axis"))
    x = images(5)
    logits = OnnxEvaluator(x, np.zeros(5, int), 2).logits(fixed)
    np.testing.assert_allclose(logits, (x.reshape(5, 2, 2) @ WEIGHT[:2]).sum(axis=1), rtol=1e-5, atol=1e-6)


def test_models_that_do_not_run_are_refused():
    evaluator = OnnxEvaluator(images(2), np.zeros(2, int), 1)
    unknown = linear(WEIGHT)
    unknown.graph.node[1].op_type = "Nonsense"
    with pytest.raises(GraphError, match="cannot load the network"):
        evaluator.score(unknown)
    with pytest.raises(GraphError, match="cannot run the network") as caught:
        OnnxEvaluator(np.zeros((2, 3, 2, 2), np.float32), np.zeros(2, int), 1).score(linear(WEIGHT))
    assert "\n" not in str(caught.value)


def test_as_many_labels_as_images():
    with pytest.raises(ValueError, match="2 images, 3 labels"):
        OnnxEvaluator(images(2), np.zeros(3, int))

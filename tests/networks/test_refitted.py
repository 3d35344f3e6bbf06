"""Grouped, shuffled, attentive and shared layers are refitted, and the module takes the refitted weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from amc_mobile.export.to_onnx import export
from amc_mobile.graph.trace import trace
from amc_mobile.prune.gram import collect
from amc_mobile.prune.importance import keep, rank
from amc_mobile.prune.module import assign, slice_module
from amc_mobile.prune.reconstruct import Reconstructor
from tests.export.networks import lively
from tests.graph.builders import relative_error, run
from tests.networks import user
from tests.prune.networks import share
from tests.prune.test_module import answers


@pytest.mark.parametrize(
    "network",
    [
        user.SharedWeights,
        user.GroupedShuffles,
        pytest.param(user.Attentive, marks=pytest.mark.slow),
        pytest.param(user.Upsampled, marks=pytest.mark.slow),
    ],
)
def test_the_refitted_module_equals_its_graph_and_is_nearer_to_the_original(network) -> None:
    torch.manual_seed(0)
    module = lively(network())
    traced = trace(export(module, module.input_shape), network.__name__)
    images = np.random.default_rng(0).standard_normal((16, *module.input_shape)).astype(np.float32)
    grams, ranking = collect(traced, images, 20, seed=0, threads=1), rank(traced, "l1")
    channels = keep(share(traced, 0.6), ranking)
    weights = Reconstructor(traced, grams, 1e-3, ranking).weights(channels)
    small = slice_module(module, traced, channels)
    assign(small, weights, traced)
    refitted, plain, original = (
        run(model, images[:1]) for model in (traced.slice(channels, weights), traced.slice(channels), traced.model)
    )
    assert relative_error(answers(small, images[:1]), refitted) < 1e-4
    assert relative_error(refitted, original) < relative_error(plain, original) / 2

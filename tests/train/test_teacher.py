"""A teacher by ONNX Runtime answers as the module does, for any number of images."""

from __future__ import annotations

import pytest
import torch

from amc_mobile.train import teacher as teaching
from amc_mobile.train.teacher import ModuleTeacher, OnnxTeacher, fast_teacher


@pytest.fixture(scope="module")
def teachers(module_of, exported):
    module = module_of("digits")
    return ModuleTeacher(module), OnnxTeacher(exported("digits"), threads=2)


@pytest.mark.parametrize("count", [1, 16, 21])
def test_both_answer_alike(teachers, count):
    images = torch.rand(count, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    first, second = (teacher(images.contiguous(memory_format=torch.channels_last)) for teacher in teachers)
    assert first.shape == second.shape == (count, 10)
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-4 * float(first.abs().max()))


def test_a_graph_that_takes_one_image_only_is_replaced_by_its_module(module_of, exported, monkeypatch):
    from amc_mobile.errors import GraphError

    def refused(*_):
        raise GraphError("the batch axis is moved")

    assert isinstance(fast_teacher(module_of("digits"), exported("digits"), 1), OnnxTeacher | ModuleTeacher)
    teaching._session.cache_clear()
    monkeypatch.setattr(teaching, "with_batch", refused)
    assert isinstance(fast_teacher(module_of("digits"), exported("digits"), 1), ModuleTeacher)

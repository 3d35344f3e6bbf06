"""Networks that several test folders share, each exported at most once in a session."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does; read when numpy and torch are imported
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import onnx
import pytest
from hypothesis import settings

# A busy machine is slow, not wrong. Under CI the examples are the same in every run.
settings.register_profile("amc", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("amc")


@functools.cache
def _module(name: str):
    import torch

    from amc_mobile.models.zoo import find

    torch.manual_seed(0)
    module = find(name).build().eval()
    for part in module.modules():  # fresh batch norms are nearly the identity: give them something to fold
        if isinstance(part, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(part.weight, 0.5, 1.5)
            torch.nn.init.normal_(part.bias, 0.0, 0.3)
            torch.nn.init.normal_(part.running_mean, 0.0, 0.1)
            torch.nn.init.uniform_(part.running_var, 0.5, 1.5)
    return module


@functools.cache
def _exported(name: str) -> onnx.ModelProto:
    from amc_mobile.export.to_onnx import export
    from amc_mobile.models.zoo import find

    return export(_module(name), find(name).input_shape)


@pytest.fixture(scope="session")
def module_of() -> Callable[[str], object]:
    """A network with random weights in eval mode, by name. Shared: copy it before changing it."""
    return _module


@pytest.fixture(scope="session")
def exported() -> Callable[[str], onnx.ModelProto]:
    """The same network as an exported ONNX model."""
    return _exported

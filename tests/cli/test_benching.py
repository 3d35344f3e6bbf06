"""When the int8 network is timed beside the pruned one, and why it is not."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import onnx
import pytest

from amc_mobile.cli.benching import quantised
from amc_mobile.config import BenchConfig
from amc_mobile.device.host import HostDevice
from amc_mobile.graph.traced import first_channels
from amc_mobile.profile.carriers import smallest
from amc_mobile.types import DeviceInfo
from tests.profile.networks import residual_network

INFO = HostDevice().info()


def session(*, int8: bool = True) -> SimpleNamespace:
    """What `quantised` reads of a run."""
    return SimpleNamespace(traced=residual_network(), config=SimpleNamespace(bench=BenchConfig(int8=int8)))


def pruned() -> onnx.ModelProto:
    traced = residual_network()
    return traced.slice(first_channels(smallest(traced.network, 0.2, 8)))


def test_a_processor_in_float32_also_gets_int8():
    model, failed = quantised(session(), INFO, pruned())
    assert failed == {}
    nodes = onnx.load_from_string(model).graph.node
    assert "QuantizeLinear" in {node.op_type for node in nodes}
    assert len(model) < pruned().ByteSize()


@pytest.mark.parametrize(
    "info",
    [
        replace(INFO, precision="int8"),
        replace(INFO, provider="CUDAExecutionProvider"),
        replace(INFO, runtime="torch 2.9.0", provider="CUDA"),
    ],
)
def test_other_devices_do_not(info: DeviceInfo):
    assert quantised(session(), info, pruned()) == (None, {})


def test_the_settings_may_do_without():
    assert quantised(session(int8=False), INFO, pruned()) == (None, {})


def test_a_network_that_cannot_be_quantised_says_why():
    """One of whose tensors the original knows nothing: they have no range."""
    foreign = pruned()
    inner = {name for node in foreign.graph.node for name in node.output}
    for node in foreign.graph.node:
        node.input[:] = [f"{name}_" if name in inner else name for name in node.input]
        node.output[:] = [f"{name}_" for name in node.output]
    foreign.graph.output[0].name += "_"
    model, failed = quantised(session(), INFO, foreign)
    assert model is None
    assert "cannot quantise" in failed["int8"] and "\n" not in failed["int8"]

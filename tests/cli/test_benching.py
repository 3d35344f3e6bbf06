"""Which networks are timed on which device: the run's own files, in int8 too where that makes sense."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest

from amc_mobile.cli.benching import beside, networks
from amc_mobile.config import RunConfig
from amc_mobile.device.host import HostDevice
from amc_mobile.errors import GraphError, RunFolderError
from amc_mobile.runs import RunFolder, write_json
from tests.profile.networks import residual_network

INFO = HostDevice().info()


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    """Four networks that can be told apart by their names."""
    folder = RunFolder(tmp_path)
    for path in (folder.original_onnx, folder.model_onnx, folder.original_int8, folder.model_int8):
        _write(path)
    write_json(folder.int8, {"made": True, "failed": ""})
    return folder


def _write(path: Path) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(residual_network().model)
    model.graph.name = path.name
    path.write_bytes(model.SerializeToString())


def session(folder: RunFolder, *, int8: bool = True) -> SimpleNamespace:
    """What these functions read of a run."""
    return SimpleNamespace(folder=folder, config=RunConfig(int8={"enabled": int8}))


def names(models) -> list[str]:
    return [model.graph.name for model in models]


def test_a_processor_in_float32_times_both_in_int8_too(folder):
    assert names(networks(session(folder), INFO)) == ["original.onnx", "model.onnx"]
    found, failed = beside(session(folder), INFO)
    assert {label: model.graph.name for label, model in found.items()} == {
        "original_int8": "original.int8.onnx",
        "int8": "model.int8.onnx",
    }
    assert failed == {}


@pytest.mark.parametrize(
    "info",
    [
        replace(INFO, precision="int8"),
        replace(INFO, provider="CUDAExecutionProvider"),
        replace(INFO, runtime="torch 2.9.0", provider="CUDA"),
    ],
)
def test_other_devices_do_not(folder, info):
    assert beside(session(folder), info) == ({}, {})


def test_a_device_in_int8_times_the_int8_files(folder):
    assert names(networks(session(folder), replace(INFO, precision="int8"))) == [
        "original.int8.onnx",
        "model.int8.onnx",
    ]


def test_the_settings_may_do_without(folder):
    assert beside(session(folder, int8=False), INFO) == ({}, {})


def test_a_network_that_could_not_be_quantised_says_why(folder):
    write_json(folder.int8, {"made": False, "failed": "ONNX Runtime cannot quantise this network: no"})
    assert beside(session(folder), INFO) == ({}, {"int8": "ONNX Runtime cannot quantise this network: no"})
    with pytest.raises(GraphError, match="cannot quantise"):
        networks(session(folder), replace(INFO, precision="int8"))


def test_a_missing_file_names_the_command_that_makes_it(folder):
    folder.model_int8.unlink()
    with pytest.raises(RunFolderError, match="amc export"):
        beside(session(folder), INFO)

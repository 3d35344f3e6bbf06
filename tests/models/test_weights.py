"""State_dict files: what is accepted, and how what does not fit is refused."""

from __future__ import annotations

import pickle

import pytest
import torch

from amc_mobile.errors import DataError
from amc_mobile.models.weights import load_weights, read_state_dict
from amc_mobile.models.zoo import find, load_module


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(3)
    return find("resnet20").build().state_dict()


def saved(tmp_path, content):
    path = tmp_path / "weights.pt"
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    "wrap",
    [
        dict,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {f"module.{key}": value for key, value in state.items()},
        lambda state: {key: value for key, value in state.items() if "num_batches" not in key},
    ],
    ids=["plain", "checkpoint", "data_parallel", "without_counters"],
)
def test_weights_come_back(tmp_path, state, wrap):
    module = load_module(find("resnet20"), saved(tmp_path, wrap(state)))
    for key, tensor in module.state_dict().items():
        assert "num_batches" in key or torch.equal(tensor, state[key])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("conv1.weight"), "does not fit resnet20: it misses conv1.weight;"),
        (lambda state: state.update(extra=torch.zeros(1)), "has unknown extra;"),
        (lambda state: state.update({"bn1.bias": torch.zeros(5)}), r"has bn1.bias \(5,\) instead of \(16,\);"),
        (
            lambda state: [state.pop(key) for key in list(state)[:9]],
            "misses conv1.weight, bn1.weight, bn1.bias and 5 more",
        ),
    ],
)
def test_misfits_are_named(tmp_path, state, change, message):
    state = dict(state)
    change(state)
    with pytest.raises(DataError, match=message) as caught:
        load_module(find("resnet20"), saved(tmp_path, state))
    assert "\n" not in str(caught.value)


def test_old_densenet_names_are_understood(tmp_path):
    module = torch.nn.Module()
    module.denselayer1 = torch.nn.Module()
    module.denselayer1.norm1 = torch.nn.BatchNorm2d(2)
    names = ("weight", "bias", "running_mean", "running_var")
    load_weights(
        module, saved(tmp_path, {f"denselayer1.norm.1.{name}": torch.full((2,), 4.0) for name in names}), "net"
    )
    assert module.denselayer1.norm1.bias.tolist() == [4.0, 4.0]


def test_heads_for_training_are_left_out(tmp_path):
    module = torch.nn.Linear(2, 2)
    path = saved(tmp_path, {"weight": torch.eye(2), "bias": torch.ones(2), "aux1.conv.weight": torch.zeros(1)})
    load_weights(module, path, "net")
    assert module.weight.tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert module.bias.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds no tensors by name"),
        ({"a": 1}, "holds no tensors by name"),
        ({}, "is empty"),
    ],
)
def test_other_contents_are_refused(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_state_dict(saved(tmp_path, content))


def test_missing_damaged_and_pickled_files_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"cannot read weights .*No such file"):
        read_state_dict(tmp_path / "none.pt")
    with pytest.raises(DataError, match="cannot read weights"):
        read_state_dict(tmp_path)
    for name, data in (("empty.pt", b""), ("text.pt", b"hello"), ("pickle.pt", pickle.dumps(find("digits").name))):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=r"no plain state_dict|holds no tensors"):
            read_state_dict(tmp_path / name)
    whole = saved(tmp_path, {"a": torch.zeros(100)})
    whole.write_bytes(whole.read_bytes()[:-50])
    with pytest.raises(DataError, match="no plain state_dict"):
        read_state_dict(whole)
    torch.save(torch.nn.Linear(1, 1), tmp_path / "module.pt")
    with pytest.raises(DataError, match="no plain state_dict"):
        read_state_dict(tmp_path / "module.pt")

"""One call brings a pruned network back from policy.json and weights.pt; what does not fit is one clear error."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from amc_mobile.errors import AmcError, DataError, RunFolderError
from amc_mobile.graph.trace import trace
from amc_mobile.models.zoo import find
from amc_mobile.prune.importance import keep, rank
from amc_mobile.prune.module import slice_module
from amc_mobile.prune.saved import load, save
from amc_mobile.runs import RunFolder
from tests.prune.networks import share


@pytest.fixture(params=["digits", "resnet20"])
def saved(request, tmp_path, module_of, exported):
    name = request.param
    traced = trace(exported(name), name)
    channels = keep(share(traced, 0.6), rank(traced, "l1"))
    small = slice_module(module_of(name), traced, channels)
    folder = RunFolder(tmp_path).create()
    save(folder, small, find(name), traced.network, channels)
    return folder, small, channels


def test_reload_answers_the_same(saved):
    folder, small, _ = saved
    shape = json.loads(folder.policy.read_text())["input_shape"]
    images = torch.from_numpy(np.random.default_rng(0).standard_normal((3, *shape)).astype(np.float32))
    again = load(folder.root)
    assert not again.training
    with torch.inference_mode():
        assert torch.equal(again(images), small.eval()(images))


def test_policy_file_says_what_stays(saved):
    folder, small, channels = saved
    policy = json.loads(folder.policy.read_text())
    assert policy["kept"] == [len(stay) for stay in channels]
    assert [group["positions"] for group in policy["groups"]] == [stay.tolist() for stay in channels]
    assert set(torch.load(folder.weights, weights_only=True)) == set(small.state_dict())


@pytest.mark.parametrize("missing", ["policy", "weights"])
def test_missing_files_name_the_command(saved, missing):
    folder, *_ = saved
    getattr(folder, missing).unlink()
    with pytest.raises(RunFolderError, match="amc prune"):
        load(folder.root)


@pytest.mark.parametrize(
    "change",
    [
        lambda policy: policy.update(schema=7),
        lambda policy: policy.pop("model"),
        lambda policy: policy.update(pads=3),
        lambda policy: policy.update(input_shape=[1]),
        lambda policy: policy.update(model="resnet32"),
        lambda policy: policy.update(model="no such network"),
    ],
)
def test_a_damaged_policy_is_one_line(saved, change):
    folder, *_ = saved
    policy = json.loads(folder.policy.read_text())
    change(policy)
    folder.policy.write_text(json.dumps(policy))
    with pytest.raises(AmcError) as caught:
        load(folder.root)
    assert "\n" not in str(caught.value)


def rewrite(folder, change) -> None:
    state = torch.load(folder.weights, weights_only=True)
    change(state)
    torch.save(state, folder.weights)


def first_matrix(state) -> str:
    return next(name for name, tensor in state.items() if tensor.ndim == 4)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop(first_matrix(state)),
        lambda state: state.update(stranger=torch.zeros(3)),
        lambda state: state.update({first_matrix(state): torch.zeros(3)}),
        lambda state: state.update({first_matrix(state): state[first_matrix(state)][1:]}),
    ],
)
def test_weights_that_do_not_fit_are_one_line(saved, change):
    folder, *_ = saved
    rewrite(folder, change)
    with pytest.raises(DataError) as caught:
        load(folder.root)
    assert "\n" not in str(caught.value)


def test_torn_weights_are_one_line(saved):
    folder, *_ = saved
    folder.weights.write_bytes(folder.weights.read_bytes()[:1000])
    with pytest.raises(DataError):
        load(folder.root)

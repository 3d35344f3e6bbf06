"""A pruned network on disk: policy.json says what it is, weights.pt is its plain state_dict."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from amc_mobile.errors import DataError, RunFolderError, first_line
from amc_mobile.graph.traced import Channels
from amc_mobile.models.weights import read_state_dict
from amc_mobile.models.zoo import ModelEntry, find
from amc_mobile.prune.resize import resize, set_pads, shortcuts
from amc_mobile.runs import RunFolder, read_json, write_bytes, write_json
from amc_mobile.types import NetworkGraph

SCHEMA = 1


def save(folder: RunFolder, module: nn.Module, entry: ModelEntry, network: NetworkGraph, channels: Channels) -> None:
    """Writes weights.pt and policy.json for a sliced module. Raises: RunFolderError."""
    stream = io.BytesIO()
    torch.save({name: tensor.detach().cpu() for name, tensor in module.state_dict().items()}, stream)
    write_bytes(folder.weights, stream.getvalue())
    save_policy(folder, entry, network, channels, {name: (p.pad_before, p.pad_after) for name, p in shortcuts(module)})


def save_policy(
    folder: RunFolder,
    entry: ModelEntry,
    network: NetworkGraph,
    channels: Channels,
    pads: Mapping[str, Any] | None = None,
) -> None:
    """Writes policy.json alone: all that a network without a module needs. Raises: RunFolderError."""
    groups = [
        {"name": group.name, "channels": group.channels, "kept": len(stay), "positions": stay.tolist()}
        for group, stay in zip(network.groups, channels, strict=True)
    ]
    kept = [group["kept"] for group in groups]
    write_json(folder.policy, described(entry) | {"kept": kept, "groups": groups, "pads": dict(pads or {})})


def described(entry: ModelEntry) -> dict[str, Any]:
    """What policy.json says of the network itself, whatever is pruned of it: all that `load` needs to build it."""
    return {
        "schema": SCHEMA,
        "model": entry.name,
        "task": entry.task,
        "input_shape": entry.input_shape,
        "classes": entry.classes,
        "preprocessing": dataclasses.asdict(entry.preprocessing),
    }


def load(root: Path | str) -> nn.Module:
    """The pruned network of a run folder, in eval mode. Needs policy.json and weights.pt only, no ONNX.

    A detector is torchvision's: called with a list of images of any size, it answers their boxes, scores and labels.
    Raises: RunFolderError or DataError in one line if a file is missing, damaged, or does not fit the other.
    """
    folder = RunFolder(Path(root))
    policy = _policy(folder)
    if Path(policy["model"]).suffix == ".onnx":
        raise RunFolderError(
            f"{folder.root} was pruned from {policy['model']}, which has no PyTorch module; run {folder.model_onnx} "
            "with ONNX Runtime"
        )
    module = _entry(policy).build()
    state = read_state_dict(folder.require(folder.weights, "prune"))
    _check_names(module, state, folder)
    try:
        resize(module, state)
        set_pads(module, {name: (int(before), int(after)) for name, (before, after) in policy["pads"].items()})
        module.eval()
        with torch.inference_mode():
            module(torch.zeros(1, *policy["input_shape"]))
    except (RuntimeError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise DataError(
            f"{folder.weights} and {folder.policy.name} do not fit together ({first_line(error)}); "
            "type `amc prune` again"
        ) from error
    return module


def _entry(policy: Mapping[str, Any]) -> ModelEntry:
    name = policy["model"]
    if policy.get("task") != "detection":
        return find(name)
    return find(name, None if ":" in name else policy["classes"], policy["input_shape"][-1])


def _policy(folder: RunFolder) -> dict[str, Any]:
    policy = read_json(folder.require(folder.policy, "prune"))
    wanted = {"model": str, "input_shape": list, "pads": dict}
    if not isinstance(policy, dict) or not all(isinstance(policy.get(key), kind) for key, kind in wanted.items()):
        raise RunFolderError(f"{folder.policy} is damaged; delete it and type `amc prune` again")
    if policy.get("schema") != SCHEMA:
        raise RunFolderError(
            f"{folder.policy} has schema {policy.get('schema')}, this version reads {SCHEMA}; type `amc prune` again"
        )
    return policy


def _check_names(module: nn.Module, state: dict[str, torch.Tensor], folder: RunFolder) -> None:
    """Every tensor of the network, none else, and none with other axes."""
    wanted = module.state_dict()
    strange = sorted(wanted.keys() ^ state.keys()) + [
        name for name in wanted.keys() & state.keys() if wanted[name].ndim != state[name].ndim
    ]
    if strange:
        raise DataError(
            f"{folder.weights} does not fit {folder.policy.name} (see {strange[0]}); type `amc prune` again"
        )

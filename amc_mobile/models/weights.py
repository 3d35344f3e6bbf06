"""State_dict files: read without pickle's dangers, fitted strictly, refused in one line."""

from __future__ import annotations

import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present

from amc_mobile.errors import DataError

_NAMED = 3  # misfits that a message names before it only counts
_OLD_DENSENET = re.compile(r"(.*denselayer\d+\.(?:norm|conv))\.(\d\..*)")  # torchvision's published DenseNet files
_TRAINING_HEADS = ("aux1.", "aux2.", "AuxLogits.")  # GoogLeNet and Inception: no part of the network in use


def load_weights(module: nn.Module, path: Path, name: str) -> None:
    """Fills the module from a state_dict file; every tensor must fit.

    A checkpoint's `state_dict` entry and the prefix `module.` of DataParallel are looked through.
    Raises: DataError that names the first misfits.
    """
    state = read_state_dict(path)
    consume_prefix_in_state_dict_if_present(state, "module.")
    wanted = module.state_dict()
    for key in [key for key in state if key not in wanted]:
        if old := _OLD_DENSENET.fullmatch(key):
            state[old[1] + old[2]] = state.pop(key)
        elif key.startswith(_TRAINING_HEADS):
            del state[key]
    missing = [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in wanted]
    reshaped = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(tensor.shape)}"
        for key, tensor in wanted.items()
        if key in state and state[key].shape != tensor.shape
    ]
    parts = [_listed("misses", missing), _listed("has unknown", unexpected), _listed("has", reshaped)]
    if any(parts):
        text = ", ".join(part for part in parts if part)
        raise DataError(f"{path} does not fit {name}: it {text}; give this network's own weights or another --model")
    module.load_state_dict(state, strict=False)


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file by name. Raises: DataError if it is missing, damaged, or holds anything but tensors."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols of files that are refused below
            content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise DataError(f"cannot read weights {path}: {error.strerror or error}; give a state_dict file") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise DataError(
            f"{path} is no plain state_dict; write one with torch.save(model.state_dict(), 'weights.pt')"
        ) from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise DataError(f"{path} holds no tensors by name; write it with torch.save(model.state_dict(), 'weights.pt')")
    if not content:
        raise DataError(f"{path} is empty; write it with torch.save(model.state_dict(), 'weights.pt')")
    return content


def _listed(verb: str, keys: list[str]) -> str:
    if not keys:
        return ""
    more = f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
    return f"{verb} {', '.join(keys[:_NAMED])}{more}"

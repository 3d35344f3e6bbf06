"""The file from which a training goes on, and how it is known to be of this very training."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel
from torch import nn

from amc_mobile.runs import write_bytes


def identity(module: nn.Module, labels: np.ndarray, settings: BaseModel, *others: object) -> str:
    """What makes two trainings the same: weights at the start, labels, settings, and what else is told."""
    told = [settings.model_dump(mode="json"), state_digest(module), *map(str, others)]
    digest = hashlib.sha256(json.dumps(told).encode())
    digest.update(np.ascontiguousarray(labels).data)
    return digest.hexdigest()


def state_digest(module: nn.Module) -> str:
    """A digest of all that a module stores."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def save(path: Path, state: dict[str, Any]) -> None:
    """Writes tensors and plain values, all or nothing."""
    stream = io.BytesIO()
    torch.save(state, stream)
    write_bytes(path, stream.getvalue())


def read(path: Path | None, identity: str) -> dict[str, Any] | None:
    """What was saved by the training of that identity; None if there is nothing, or another's, or it is damaged."""
    if path is None or not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError):
        return None
    return state if state.get("identity") == identity else None

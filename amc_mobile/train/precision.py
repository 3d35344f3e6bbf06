"""Mixed precision: the network's arithmetic in 16 bits, its weights and their sums in 32."""

from __future__ import annotations

import contextlib
from typing import Any, Literal

import torch
from torch import nn

from amc_mobile.errors import ConfigError

Name = Literal["auto", "fp32", "bf16", "fp16"]
_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Arithmetic:
    """How one training computes. fp16 scales the loss so that small gradients survive (Micikevicius et al., 2018)."""

    def __init__(self, name: Name, device: torch.device, clip: float | None = None) -> None:
        """`clip` is the largest norm of a step's gradient. Raises: ConfigError for fp16 on a CPU."""
        if name == "fp16" and device.type == "cpu":
            raise ConfigError("precision fp16 needs a GPU; set precision to 'bf16', 'fp32' or 'auto'")
        self.name = _automatic(device) if name == "auto" else name
        self._device, self._clip = device, clip
        self._scaler = torch.amp.GradScaler(device.type, enabled=self.name == "fp16")

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Run the network and its loss inside."""
        dtype = _TYPES.get(self.name)
        return contextlib.nullcontext() if dtype is None else torch.autocast(self._device.type, dtype)

    def step(self, loss: torch.Tensor, optimiser: torch.optim.Optimizer) -> None:
        """Gradients of the loss, and one step of the optimiser; none if fp16 overflowed."""
        optimiser.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        if self._clip is not None:
            self._scaler.unscale_(optimiser)
            parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
            nn.utils.clip_grad_norm_(parameters, self._clip, foreach=True)
        self._scaler.step(optimiser)
        self._scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs to go on."""
        return dict(self._scaler.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from what `state_dict` gave."""
        if state:
            self._scaler.load_state_dict(state)


def _automatic(device: torch.device) -> Literal["fp32", "bf16", "fp16"]:
    if device.type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"

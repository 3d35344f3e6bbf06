"""What training makes small."""

from __future__ import annotations

import torch
from torch.nn import functional


def imitation(logits: torch.Tensor, answer: torch.Tensor, temperature: float) -> torch.Tensor:
    """How far logits (N, classes) are from the teacher's answer (N, classes), both softened: a mean over the images.

    The divergence times the temperature's square, so that its gradient keeps its size (Hinton, Vinyals and Dean, 2015).
    """
    divergence = functional.kl_div(
        functional.log_softmax(logits / temperature, dim=1),
        functional.log_softmax(answer / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    return temperature**2 * divergence

"""What a module answers, down to the logits: some answer a tuple, many of them in training mode only."""

from __future__ import annotations

import torch

from amc_mobile.errors import GraphError


def logits_of(answer: object) -> torch.Tensor:
    """The answer itself, or the first of several: GoogLeNet and Inception add auxiliary logits while they are trained.

    Raises: GraphError if that is no tensor.
    """
    first = next(iter(answer), None) if isinstance(answer, tuple) else answer
    if not isinstance(first, torch.Tensor):
        raise GraphError(f"the network answers {type(first).__name__}, not logits")
    return first

"""Fine-grained pruning of a PyTorch module, and what keeps its zeros while it is trained."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

from amc_mobile.errors import GraphError
from amc_mobile.graph.prepare import note_of
from amc_mobile.graph.traced import TracedGraph, Weights
from amc_mobile.prune.layout import Masks
from amc_mobile.prune.module import assign
from amc_mobile.prune.sparse import SparsePruner
from amc_mobile.types import Policy


class ZeroKeeper:
    """The masks of a module's parameters. Call it with the module after every step of the optimiser."""

    def __init__(self, masks: dict[str, torch.Tensor]) -> None:
        self._masks = masks

    def __call__(self, module: nn.Module) -> None:
        """Sets to zero what must be zero, in place. Raises: GraphError if the module lacks a parameter."""
        parameters = dict(module.named_parameters(remove_duplicate=False))
        with torch.no_grad():
            for name, mask in self._masks.items():
                if name not in parameters or parameters[name].shape != mask.shape:
                    raise GraphError(f"{name} is no parameter of the module that was pruned; give the same network")
                parameters[name].mul_(mask.to(parameters[name].device))


def zero_keeper(traced: TracedGraph, masks: Masks) -> ZeroKeeper:
    """The masks of a SparsePruner under the names and in the shapes of the module's parameters.

    A batch norm that is folded in the graph scales whole filters: zeros stay zeros.
    """
    transposed: dict[str, str] = note_of(traced.model, "amc.transposed") or {}
    tensors = {}
    for name, mask in masks.items():
        own = mask.T if name in transposed else mask
        tensors[transposed.get(name, name)] = torch.from_numpy(np.ascontiguousarray(own))
    return ZeroKeeper(tensors)


def sparse_module(
    module: nn.Module, pruner: SparsePruner, policy: Policy, weights: Weights | None = None
) -> tuple[nn.Module, ZeroKeeper]:
    """A copy of the module, on the CPU, with the zeros of the policy (one of the sparse view), and what keeps them.

    In eval mode it equals the pruner's graph; `weights` as there. Raises: GraphError if policy or module do not fit
    the graph.
    """
    sparse, masks = copy.deepcopy(module).cpu(), pruner.masks(policy)
    keeper = zero_keeper(pruner.traced, masks)
    keeper(sparse)
    assign(sparse, pruner.weights(masks) if weights is None else weights, pruner.traced)
    return sparse, keeper

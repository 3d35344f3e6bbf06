"""Channels by activation times gradient: how much the loss changes, to first order, when the channel falls silent.

Molchanov et al., ICLR 2017 (eq. 8 without the normalisation per layer, which a ranking inside groups does not need).
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from amc_mobile.errors import ConfigError
from amc_mobile.graph.prepare import note_of
from amc_mobile.graph.traced import TracedGraph
from amc_mobile.prune.layout import Problem, by_weight, problems

_BATCH = 16

Floats = NDArray[np.float64]


def rank_by_gradients(
    traced: TracedGraph, module: nn.Module, images: NDArray[np.float32], labels: NDArray[np.int64] | None
) -> dict[int, NDArray[np.int64]]:
    """Prunable groups by |sum of activation times gradient| over what their consumers read, averaged over the images.

    The loss is the cross entropy of the original network, in eval mode; without labels, against its own answers. What
    several consumers say of one image adds up with its sign: a channel falls silent everywhere at once.
    Raises: ConfigError if a consumer is no module of its own, or another module computes with its weight.
    """
    network = copy.deepcopy(module).cpu().eval().requires_grad_(requires_grad=True)
    watch = _Watch(traced, network)
    for start in range(0, len(images), _BATCH):
        answer = network(torch.from_numpy(np.ascontiguousarray(images[start : start + _BATCH])))
        logits = answer if isinstance(answer, torch.Tensor) else next(iter(answer))
        own = logits.argmax(dim=1) if labels is None else torch.from_numpy(labels[start : start + _BATCH]).long()
        functional.cross_entropy(logits, own, reduction="sum").backward()  # type: ignore[no-untyped-call]
        network.zero_grad(set_to_none=True)
        watch.close_batch()
        if start == 0:
            watch.require_all()
    return {group: np.argsort(-score, kind="stable") for group, score in watch.scores.items()}


class _Watch:
    """Hooks on every layer that reads a prunable group, and what they have seen."""

    def __init__(self, traced: TracedGraph, network: nn.Module) -> None:
        self._traced = traced
        groups = traced.network.groups
        self.scores = {group.index: np.zeros(group.channels) for group in groups if group.prunable}
        self._batch: dict[int, Floats] = {}
        self._unseen: set[str] = set()
        parts = dict(network.named_modules())
        names = _module_names(traced)
        for problem, *_ in by_weight(problems(traced)).values():
            part = parts.get(names(problem.weight))
            if part is None:
                raise ConfigError(
                    f"importance 'taylor' finds no module {problem.layers[0].name!r}; choose 'reconstruction'"
                )
            part.register_forward_pre_hook(self._hook(problem))
            self._unseen.add(problem.layers[0].name)

    def close_batch(self) -> None:
        """Adds the images of one batch to the scores."""
        for group, signed in self._batch.items():
            self.scores[group] += np.abs(signed).sum(axis=0)
        self._batch.clear()

    def require_all(self) -> None:
        """Raises: ConfigError if a layer was not called as a module: attention calls its projection's weight alone."""
        if self._unseen:
            raise ConfigError(
                f"importance 'taylor' does not see what {min(self._unseen)} reads ({len(self._unseen)} such layers); "
                "choose 'reconstruction'"
            )

    def _hook(self, problem: Problem) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        def watch(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            data = inputs[0]
            if data.requires_grad:
                data.register_hook(lambda gradient: self._note(problem, data.detach(), gradient))  # type: ignore[no-untyped-call]

        return watch

    def _note(self, problem: Problem, data: torch.Tensor, gradient: torch.Tensor) -> None:
        self._unseen.discard(problem.layers[0].name)
        product = (data * gradient).double()
        if problem.layers[0].kind == "linear":  # (N, ..., K)
            product = product.reshape(len(product), -1, product.shape[-1]).sum(dim=1)
        else:
            product = product.flatten(2).sum(dim=2)
        axis_map = self._traced.axes[problem.weight][problem.axis]
        places = product.numpy().reshape(len(product), problem.parts, len(axis_map.group)).sum(axis=1)
        for group in self.scores.keys() & set(axis_map.group.tolist()):
            here = axis_map.group == group
            member = axis_map.channel[here][:, None] == np.arange(len(self.scores[group]))
            self._batch[group] = self._batch.get(group, 0.0) + places[:, here] @ member


def _module_names(traced: TracedGraph) -> Callable[[str], str]:
    """From a weight of the graph to the dotted name of its module."""
    transposed: dict[str, str] = note_of(traced.model, "amc.transposed") or {}
    return lambda weight: transposed.get(weight, weight).removesuffix(".weight")

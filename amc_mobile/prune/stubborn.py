"""Channels that a module's own code insists on, found by trying: a view to 512, a pad of 8, a split in 5 and 7."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import onnx
import torch
from torch import nn

from amc_mobile.errors import GraphError
from amc_mobile.graph.trace import trace
from amc_mobile.graph.traced import Channels, TracedGraph
from amc_mobile.prune.module import cut, slice_module
from amc_mobile.prune.resize import shortcuts
from amc_mobile.types import ChannelGroup

_FEW = 5  # so many groups at once do not fit by chance
Groups = Sequence[ChannelGroup]
Refusal = Callable[[Groups], str]


def pin_stubborn(module: nn.Module, model: onnx.ModelProto) -> onnx.ModelProto:
    """The module's exported graph, which now says which layers' outputs the module cannot run without.

    Random channels of all groups are cut from the module at once; only if it then fails, or differs from its graph, are
    those groups looked for that it insists on. They stand in the graph's metadata "amc.pinned", JSON [[layer, outputs,
    reason]], which `trace` obeys.
    Raises: GraphError if the module differs from its graph with all of its channels.
    """
    traced = trace(model, type(module).__name__)
    groups = traced.network.prunable()
    pinned: dict[int, str] = {}
    if _refusal(module, traced, groups):
        slice_module(module, traced, _channels(traced, (), 0))
        pinned = _all_stubborn(module, traced, groups)
    noted = onnx.ModelProto()
    noted.CopyFrom(model)
    if pinned:
        entries = [_entry(traced, group, reason) for group, reason in pinned.items()]
        noted.metadata_props.add(key="amc.pinned", value=json.dumps(entries))
    return noted


def _all_stubborn(module: nn.Module, traced: TracedGraph, groups: Groups) -> dict[int, str]:
    """The stubborn groups by their index, with the reasons.

    Most give themselves away by shapes alone, which costs nearly nothing to find out; the rest by their numbers.
    """
    shapes = _Shapes(module, traced)
    pinned = {} if shapes.refusal(()) else _search(shapes.refusal, groups)
    rest = [group for group in groups if group.index not in pinned]
    by_numbers = partial(_refusal, module, traced)
    return pinned | (_found(by_numbers, rest) if by_numbers(rest) else {})


def _entry(traced: TracedGraph, group: int, reason: str) -> tuple[str, list[int], str]:
    """The group by the first layer that makes it, and where among its outputs."""
    layer = next(layer for layer in traced.network.layers if layer.name == traced.network.groups[group].producers[0])
    sides = [side for side in traced.axes[layer.weight].values() if not side.reads]
    return layer.name, np.flatnonzero(sides[0].group == group).tolist(), reason


def _found(refusal: Refusal, groups: Groups) -> dict[int, str]:
    """The stubborn groups by their index, with the reasons."""
    pinned = _search(refusal, groups)
    rest: list[ChannelGroup] = []
    for group in groups:  # those that are stubborn only together
        if group.index not in pinned:
            reason = refusal([*rest, group])
            if reason:
                pinned[group.index] = reason
            else:
                rest.append(group)
    return pinned


def _search(refusal: Refusal, groups: Groups) -> dict[int, str]:
    """As `_found`, for groups that are stubborn each on its own, by halving."""
    reason = refusal(groups) if groups else ""
    if not reason or len(groups) == 1:
        return {groups[0].index: reason} if reason else {}
    middle = len(groups) // 2
    return _search(refusal, groups[:middle]) | _search(refusal, groups[middle:])


def _refusal(module: nn.Module, traced: TracedGraph, groups: Groups) -> str:
    """Why the module does not follow when these groups are cut; empty if it does."""
    for seed in range(2 if len(groups) < _FEW else 1):
        try:
            slice_module(module, traced, _channels(traced, groups, seed))
        except GraphError as error:
            return f"its code insists on them: {error.__cause__ or 'the sliced module differs'}".splitlines()[0]
        except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
            return f"its parameters cannot be cut like the graph's: {error or type(error).__name__}".splitlines()[0]
    return ""


class _Shapes:
    """The module without any numbers in it: it runs in no time, and fails where shapes do not fit."""

    def __init__(self, module: nn.Module, traced: TracedGraph) -> None:
        self._module = copy.deepcopy(module).to("meta").eval()
        self._traced = traced

    def refusal(self, groups: Groups) -> str:
        """Why the module does not run when these groups are cut; empty if it does."""
        channels = _channels(self._traced, groups, 0)
        small = copy.deepcopy(self._module)
        try:
            sliced = self._traced.slice(channels) if any(True for _ in shortcuts(small)) else onnx.ModelProto()
            cut(small, self._traced, channels, sliced)
            with torch.no_grad():
                small(torch.zeros(self._traced.network.input_shape, device="meta"))
        except Exception as error:  # noqa: BLE001 - the user's own code may raise anything
            return f"its code insists on them: {error or type(error).__name__}".splitlines()[0]
        return ""


def _channels(traced: TracedGraph, groups: Groups, seed: int) -> Channels:
    """Fewer channels of some groups at random, all of the others."""
    random = np.random.default_rng(seed)
    cut = {group.index for group in groups}
    return tuple(
        np.sort(random.permutation(group.channels)[: random.integers(1, group.channels)])
        if group.index in cut
        else np.arange(group.channels)
        for group in traced.network.groups
    )

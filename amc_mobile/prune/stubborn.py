"""Channels that a module's own code insists on, found by trying: a view to 512, a pad of 8, a split in 5 and 7."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import onnx
from torch import nn

from amc_mobile.errors import GraphError
from amc_mobile.graph.trace import trace
from amc_mobile.graph.traced import Channels, TracedGraph
from amc_mobile.prune.module import slice_module
from amc_mobile.types import ChannelGroup

_FEW = 5  # so many groups at once do not fit by chance
Groups = Sequence[ChannelGroup]


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
        pinned = _found(module, traced, groups)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if pinned:
        entries = [_entry(traced, group, reason) for group, reason in pinned.items()]
        copy.metadata_props.add(key="amc.pinned", value=json.dumps(entries))
    return copy


def _entry(traced: TracedGraph, group: int, reason: str) -> tuple[str, list[int], str]:
    """The group by the first layer that makes it, and where among its outputs."""
    layer = next(layer for layer in traced.network.layers if layer.name == traced.network.groups[group].producers[0])
    sides = [side for side in traced.axes[layer.weight].values() if not side.reads]
    return layer.name, np.flatnonzero(sides[0].group == group).tolist(), reason


def _found(module: nn.Module, traced: TracedGraph, groups: Groups) -> dict[int, str]:
    """The stubborn groups by their index, with the reasons."""
    pinned = _search(module, traced, groups)
    rest: list[ChannelGroup] = []
    for group in groups:  # those that are stubborn only together
        if group.index not in pinned:
            reason = _refusal(module, traced, [*rest, group])
            if reason:
                pinned[group.index] = reason
            else:
                rest.append(group)
    return pinned


def _search(module: nn.Module, traced: TracedGraph, groups: Groups) -> dict[int, str]:
    """As `_found`, for groups that are stubborn each on its own, by halving."""
    reason = _refusal(module, traced, groups) if groups else ""
    if not reason or len(groups) == 1:
        return {groups[0].index: reason} if reason else {}
    middle = len(groups) // 2
    return _search(module, traced, groups[:middle]) | _search(module, traced, groups[middle:])


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

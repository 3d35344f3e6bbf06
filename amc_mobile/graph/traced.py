"""A traced network: every policy is a slice of this one graph, made in milliseconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from amc_mobile.errors import GraphError
from amc_mobile.graph.identities import Identities, Ids
from amc_mobile.graph.prepare import Arrays, attributes, with_weights, without_weights
from amc_mobile.graph.walk import Walk
from amc_mobile.types import NetworkGraph, Policy

Channels = tuple[Ids, ...]  # for every group, pinned ones too: the sorted channels that stay
Weights = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class AxisMap:
    """Which channel of which group stands at each index of one axis of a weight. `reads`: a layer's input side."""

    group: Ids
    channel: Ids
    reads: bool


@dataclass(frozen=True, slots=True)
class GroupIndex:
    """Where an identity ended up: its group, and its number inside the group. (-1, 0) for one without any weight.

    `group_of` and `channel_of` are looked up by root.
    """

    identities: Identities
    group_of: Ids
    channel_of: Ids

    def locate(self, ids: Ids) -> tuple[Ids, Ids]:
        """Groups and channels of some identities, each of the same length as `ids`."""
        roots = self.identities.roots(ids)
        return self.group_of[roots], self.channel_of[roots]


def first_channels(policy: Policy) -> Channels:
    """The lowest-numbered channels of each group: for timing, where the choice does not matter."""
    return tuple(np.arange(kept, dtype=np.int64) for kept in policy.kept)


class TracedGraph:
    """One network as an ONNX graph whose channel groups are known.

    `network` describes it as plain data; `axes` tells the groups along each axis of each weight.
    """

    def __init__(
        self,
        skeleton: onnx.ModelProto,
        network: NetworkGraph,
        arrays: Arrays,
        axes: Mapping[str, Mapping[int, AxisMap]],
        index: GroupIndex,
        *,
        walk: Walk,
    ) -> None:
        self.network = network
        self.axes = axes
        self._arrays = arrays
        self._counts = [(count, *index.locate(count.ids)) for count in walk.counts]
        self._reindexes = [(item, *index.locate(item.ids)) for item in walk.reindexes]
        self._annotated = skeleton  # with the shapes of intermediate tensors, which hold for the full network only
        self._skeleton = without_weights(skeleton)

    @cached_property
    def model(self) -> onnx.ModelProto:
        """The original network: batch 1, constants folded, shapes of all intermediate tensors recorded."""
        return with_weights(self._annotated, self._arrays)

    def weight(self, name: str) -> NDArray[Any]:
        """The original's initialiser of that name."""
        return self._arrays[name]

    def positions(self, weight: str, axis: int, channels: Channels) -> Ids:
        """The indices that stay along an axis of an initialiser, ascending; all of them where no group stands."""
        axis_map = self.axes.get(weight, {}).get(axis)
        if axis_map is None:
            return np.arange(self._arrays[weight].shape[axis], dtype=np.int64)
        return np.flatnonzero(_stays(axis_map.group, axis_map.channel, self._masks(channels)))

    def slice(self, channels: Channels, weights: Weights | None = None) -> onnx.ModelProto:
        """The physically smaller network. `weights`, already in their smaller shapes, replace the sliced originals.

        Raises: GraphError if `channels` empties a group or does not fit the network.
        """
        masks = self._masks(channels)
        arrays = dict(self._arrays)
        for name, axes in self.axes.items():
            if weights is not None and name in weights:
                continue
            for axis, axis_map in axes.items():
                stays = _stays(axis_map.group, axis_map.channel, masks)
                if not stays.all():
                    arrays[name] = np.compress(stays, arrays[name], axis=axis)
        arrays.update(weights or {})
        sliced = with_weights(self._skeleton, {})
        self._follow_counts(sliced, arrays, masks)
        sliced.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
        return sliced

    def mask(self, channels: Channels) -> onnx.ModelProto:
        """The full-size network in which nobody hears the pruned channels: equal to the slice in every output."""
        masks = self._masks(channels)
        arrays = dict(self._arrays)
        for name, axes in self.axes.items():
            for axis, axis_map in axes.items():
                stays = _stays(axis_map.group, axis_map.channel, masks)
                if axis_map.reads and not stays.all():
                    shape = [-1 if other == axis else 1 for other in range(arrays[name].ndim)]
                    arrays[name] = (arrays[name] * stays.reshape(shape)).astype(arrays[name].dtype, copy=False)
        return with_weights(self._skeleton, arrays)

    def _masks(self, channels: Channels) -> list[NDArray[np.bool_]]:
        groups = self.network.groups
        if len(channels) != len(groups):
            raise GraphError(f"{len(channels)} channel lists for {len(groups)} groups of {self.network.name}")
        masks = []
        for group, stay in zip(groups, channels, strict=True):
            mask = np.zeros(group.channels, bool)
            if not len(stay) or stay[0] < 0 or stay[-1] >= group.channels:
                raise GraphError(f"group {group.name} of {self.network.name} must keep 1..{group.channels} channels")
            mask[stay] = True
            if not group.prunable and not mask.all():
                raise GraphError(f"group {group.name} of {self.network.name} cannot be pruned: {group.reason}")
            masks.append(mask)
        return masks

    def _follow_counts(self, sliced: onnx.ModelProto, arrays: Arrays, masks: list[NDArray[np.bool_]]) -> None:
        """Shape constants, pads, split sizes and the `group` of depthwise convolutions follow the channels."""
        fresh: set[str] = set()
        for count, group, channel in self._counts:
            number = int(_stays(group, channel, masks).sum())
            if count.node >= 0:
                _set_group(sliced.graph.node[count.node], number)
                continue
            if count.constant not in fresh:
                arrays[count.constant] = arrays[count.constant].copy()
                fresh.add(count.constant)
            arrays[count.constant][count.index] = number
        for item, group, channel in self._reindexes:
            stays = _stays(group, channel, masks)
            old = arrays[item.constant]
            arrays[item.constant] = (np.cumsum(stays) - 1)[old[stays[old]]].astype(old.dtype)


def _stays(group: Ids, channel: Ids, masks: list[NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """Which positions stay; positions of no group always do."""
    stays = np.ones(len(group), bool)
    for number in np.unique(group):
        if number >= 0:
            here = group == number
            stays[here] = masks[number][channel[here]]
    return stays


def _set_group(node: onnx.NodeProto, number: int) -> None:
    if attributes(node).get("group", 1) != number:
        for item in node.attribute:
            if item.name == "group":
                item.i = number

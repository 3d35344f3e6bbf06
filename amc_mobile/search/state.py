"""What the agent sees before each decision: the paper's eleven features of the layer, computed exactly.

He et al. 2018, sec. 3.1: (t, n, c, h, w, stride, k, FLOPs[t], reduced, rest, a_{t-1}), each scaled to [0, 1]. A group's
representative layer is its first consumer, because the paper's action prunes a layer's input channels.

* t: number of the decision
* n, c: output and input channels of the layer, c being those of the group itself
* h, w: height and width of the layer's input; stride, k: the larger of the two directions
* FLOPs[t]: MACs of all layers whose cost this group changes, unpruned
* reduced: cost already saved by the decisions so far, in the budget's metric
* rest: cost that the decisions still to come can save at most, in the budget's metric
* a_{t-1}: keep ratio of the decision before; 1 before the first

The first eight are moved and scaled by their range over the groups, `reduced` and `rest` are shares of the original's
cost, which is exact: the cost function prices the whole network with the decisions so far. Under several budgets the
cost is the largest share of any limit.
With a latency table a twelfth follows: the share of the original latency that pruning this group alone to its limit
saves, scaled by the largest such share.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from amc_mobile.cost.formulas import layer_macs
from amc_mobile.search.budget import Walls, replaced
from amc_mobile.types import ChannelGroup, Layer, NetworkGraph

State = NDArray[np.float32]


class States:
    """The states of one network under one budget. Calling it with the widths decided so far gives the next one."""

    def __init__(self, walls: Walls, *, latency: bool = False) -> None:
        self._walls = walls
        columns = [_unit(column) for column in np.array([_shape(walls, step) for step in range(len(walls.groups))]).T]
        self._shapes = np.array(columns).T  # (groups, 8)
        self._shares = _unit(np.array([0.0, *_shares(walls)]))[1:] if latency else None
        self.features = 11 + latency

    def __call__(self, decided: Sequence[int]) -> State:
        """The state before decision `len(decided)`, float32 (features,); after the last one, the state it led to."""
        walls = self._walls
        step = min(len(decided), len(walls.groups) - 1)
        most = walls.most(decided)
        reduced = 1.0 - most / walls.full_cost
        rest = (most - walls.least(decided)) / walls.full_cost
        before = decided[-1] / walls.channels[len(decided) - 1] if decided else 1.0
        share = [] if self._shares is None else [self._shares[step]]
        state: State = np.array([*self._shapes[step], reduced, rest, before, *share], np.float32)
        return state.clip(0.0, 1.0)  # rounding alone can leave [0, 1]


def representative(network: NetworkGraph, group: ChannelGroup) -> Layer:
    """The layer that stands for a group: its first consumer, or a layer it shapes if nothing consumes it."""
    touched = touched_layers(network, group)
    return next((layer for layer in touched if layer.name in group.consumers), touched[0])


def touched_layers(network: NetworkGraph, group: ChannelGroup) -> list[Layer]:
    """The layers that get smaller when the group does: its producers, its consumers, depthwise layers in between."""
    return [
        layer
        for layer in network.layers
        if any(span.group == group.index for span in (*layer.in_spans, *layer.out_spans))
    ]


def _shape(walls: Walls, step: int) -> list[float]:
    group, full = walls.groups[step], walls.network.full().kept
    layer = representative(walls.network, group)
    flops = sum(layer_macs(touched, full) for touched in touched_layers(walls.network, group))
    shape = [layer.out_channels, group.channels, *layer.in_hw, max(layer.stride), max(layer.kernel), flops]
    return [float(value) for value in (step, *shape)]


def _shares(walls: Walls) -> list[float]:
    alone = [replaced(walls.channels, step, smallest) for step, smallest in enumerate(walls.smallest)]
    price = walls.cost if walls.latency is None else lambda widths: walls.latency(walls.policy(widths).kept)
    full = price(walls.channels)
    return [1.0 - price(widths) / full for widths in alone]


def _unit(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values moved and scaled to [0, 1]; 0 for a feature that is the same for every group."""
    spread = values.max() - values.min()
    return (values - values.min()) / spread if spread else np.zeros_like(values)

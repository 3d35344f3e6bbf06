"""Ranks channels by what least squares cannot repair: backward elimination on the layers' second moments.

Removing channel c from a layer whose other weights are refitted raises its squared error by tr(W_cᵀ (P_cc)⁻¹ W_c), where
P = (M + λI)⁻¹ and W are the inverse moments and the weights after all removals so far (the optimal brain surgeon's
saliency, Hassibi and Stork 1993, for a block of columns). The cheapest channels go first, and P and W follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve

from amc_mobile.prune.least_squares import absolute_ridge, centred, factorise
from amc_mobile.prune.moments import Float, LayerGram

_STEPS = 64  # about as many rounds of removals for a group: after a round, everything is solved again


@dataclass(slots=True)
class Consumer:
    """One layer that reads a group: inverse moments and weights of the group's columns only, channel by channel.

    `inverse` is (C, taps, C, taps) for C channels that are left, `weight` (C, taps, out); `scale` makes layers
    comparable.
    """

    inverse: Float
    weight: Float
    scale: float

    def losses(self) -> Float:
        """What the removal of each channel that is left would cost, (C,), relative to the layer's own energy."""
        channels = np.arange(len(self.weight))
        blocks = self.inverse[channels, :, channels]  # (C, taps, taps)
        return np.einsum("cko,cko->c", self.weight, np.linalg.solve(blocks, self.weight)) / self.scale

    def remove(self, gone: NDArray[np.int64]) -> None:
        """Takes channels out and refits those that stay."""
        channels, taps, out = self.weight.shape
        stays = np.setdiff1d(np.arange(channels), gone)
        size = len(gone) * taps
        across = self.inverse[np.ix_(stays, range(taps), gone, range(taps))].reshape(-1, size)
        block = self.inverse[np.ix_(gone, range(taps), gone, range(taps))].reshape(size, size)
        gain = np.linalg.solve(block, across.T).T
        inverse = self.inverse[stays][:, :, stays].reshape(len(stays) * taps, -1)
        self.inverse = (inverse - gain @ across.T).reshape(len(stays), taps, len(stays), taps)
        self.weight = self.weight[stays] - (gain @ self.weight[gone].reshape(size, out)).reshape(-1, taps, out)


def eliminate(consumers: Sequence[Consumer], channels: int) -> NDArray[np.int64]:
    """All channels of a group from most to least important."""
    left = np.arange(channels)
    removed: list[int] = []
    step = max(1, channels // _STEPS)
    while len(left) > step:
        losses = np.sum([consumer.losses() for consumer in consumers], axis=0)
        gone = np.argsort(losses, kind="stable")[:step]
        removed.extend(left[gone].tolist())
        for consumer in consumers:
            consumer.remove(np.sort(gone))
        left = np.delete(left, gone)
    losses = np.sum([consumer.losses() for consumer in consumers], axis=0)
    removed.extend(left[np.argsort(losses, kind="stable")].tolist())
    return np.array(removed[::-1], np.int64)

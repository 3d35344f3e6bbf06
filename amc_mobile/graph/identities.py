"""Channel identities: who stands where along the channel axis of every activation, and who must leave together.

An identity is an integer. A convolution makes fresh ones for its outputs; element-wise operators unite those that meet
at the same place; everything else hands them on. Identities that reach a place that is not understood are pinned,
with the reason. At the end, united identities are one channel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Lane:
    """The identities of one activation: `ids[i]` stands at index i of `axis`; along other axes nothing varies."""

    axis: int
    ids: Ids


class Identities:
    """A union-find over channel identities, with the reasons for which some may not be pruned."""

    def __init__(self) -> None:
        self._parent: Ids = np.arange(1024, dtype=np.int64)  # whoever is its own parent is a root, or not yet born
        self.count = 0
        self._reason: dict[int, str] = {}

    def fresh(self, count: int, pinned: str = "") -> Ids:
        """New identities, one for each channel; pinned from birth if a reason is given."""
        start, self.count = self.count, self.count + count
        if self.count > len(self._parent):
            born = np.arange(len(self._parent), 2 * self.count, dtype=np.int64)
            self._parent = np.concatenate([self._parent, born])
        ids = np.arange(start, self.count, dtype=np.int64)
        if pinned:
            self.pin(ids, pinned)
        return ids

    def roots(self, ids: Ids) -> Ids:
        """For each identity the oldest one that it has been united with."""
        roots = self._parent[ids]
        while not np.array_equal(further := self._parent[roots], roots):
            roots = further
        self._parent[ids] = roots
        return roots

    def unite(self, first: Ids, second: Ids) -> None:
        """Whoever stands at the same index must leave together. A reason to stay holds for both."""
        one, other = self.roots(first), self.roots(second)
        while (one != other).any():
            old, young = np.minimum(one, other), np.maximum(one, other)
            np.minimum.at(self._parent, young, old)
            one, other = self.roots(one), self.roots(other)
            for lost in np.unique(young[young != self._parent[young]]).tolist():
                reason = self._reason.pop(lost, None)
                if reason is not None:
                    self._reason.setdefault(int(self.roots(np.array([lost]))[0]), reason)

    def pin(self, ids: Ids, reason: str) -> None:
        """These may not be pruned. The first reason is kept."""
        for root in np.unique(self.roots(ids)).tolist():
            self._reason.setdefault(root, reason)

    def reason(self, root: int) -> str:
        """Why the channel of this root may not be pruned; empty if it may."""
        return self._reason.get(root, "")

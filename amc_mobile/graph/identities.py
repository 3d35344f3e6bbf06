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
        self._parent: list[int] = []
        self._reason: dict[int, str] = {}

    def fresh(self, count: int, pinned: str = "") -> Ids:
        """New identities, one for each channel; pinned from birth if a reason is given."""
        start = len(self._parent)
        ids = np.arange(start, start + count, dtype=np.int64)
        self._parent.extend(range(start, start + count))
        if pinned:
            self.pin(ids, pinned)
        return ids

    def root(self, identity: int) -> int:
        """The oldest identity that this one has been united with."""
        parent = self._parent
        while parent[identity] != identity:
            parent[identity] = parent[parent[identity]]
            identity = parent[identity]
        return identity

    def roots(self, ids: Ids) -> Ids:
        """As root, for an array."""
        return np.fromiter((self.root(int(identity)) for identity in ids), np.int64, len(ids))

    def unite(self, first: Ids, second: Ids) -> None:
        """Whoever stands at the same index must leave together. A reason to stay holds for both."""
        for one, other in zip(first.tolist(), second.tolist(), strict=True):
            a, b = self.root(one), self.root(other)
            if a == b:
                continue
            old, young = min(a, b), max(a, b)
            self._parent[young] = old
            reason = self._reason.pop(young, None)
            if reason is not None:
                self._reason.setdefault(old, reason)

    def pin(self, ids: Ids, reason: str) -> None:
        """These may not be pruned. The first reason is kept."""
        for identity in set(ids.tolist()):
            self._reason.setdefault(self.root(identity), reason)

    def reason(self, root: int) -> str:
        """Why this channel may not be pruned; empty if it may."""
        return self._reason.get(self.root(root), "")

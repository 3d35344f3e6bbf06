"""Parts of a channel axis that must keep equally many channels: conv-groups, channel shuffles, chunks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from amc_mobile.graph.identities import Identities, Ids


def unite_columns(identities: Identities, block: Ids) -> Ids:
    """Unites what stands in the same column of (parts, columns): every part then keeps the same columns.

    Returns: the identities of the columns.
    """
    columns: Ids = block[0]
    for row in block[1:]:
        identities.unite(columns, row)
    return columns


def balance(identities: Identities, parts: Sequence[Ids]) -> None:
    """Unites identities until equally many of each part stay, whoever leaves; as few unions as are easily found.

    Whoever stands equally often in all parts may leave as it is. One that stands m times in a single part leaves with
    one that stands m times in each other part, in the order of age. What has no such partners leaves all together.
    """
    roots = [identities.roots(part) for part in parts]
    everyone = np.unique(np.concatenate(roots))
    # (parts, identities): how often each one stands in each part
    table = np.stack([np.bincount(np.searchsorted(everyone, part), minlength=len(everyone)) for part in roots])
    alone = (table != table[0]).any(axis=0)
    in_one_part = (table > 0).sum(axis=0) == 1
    for times in np.unique(table[:, in_one_part]).tolist():
        alike = [np.flatnonzero(in_one_part & (row == times)) for row in table] if times else []
        number = min(map(len, alike), default=0)
        for partners in alike[1:]:
            identities.unite(everyone[alike[0][:number]], everyone[partners[:number]])
        for partners in alike:
            alone[partners[:number]] = False
    rest = everyone[alone]
    if len(rest):
        identities.unite(np.full(len(rest), rest[0]), rest)

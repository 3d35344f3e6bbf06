"""Why each group is as wide as it is: what its width costs in accuracy and saves in time, alone and at the margin.

Losses are divergences from the original's outputs (KL, nats) of the network in which this group alone is narrower, as
sensitivity.json holds them: how groups harm each other is not in them. Savings are differences of the same prices that
the budget is counted in. why.json is {"schema", "kept_by", "groups": [Reason, ...]}, in the order of execution.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from amc_mobile.cost.price import Tables, price
from amc_mobile.errors import RunFolderError
from amc_mobile.runs import read_json
from amc_mobile.search.budget import replaced
from amc_mobile.search.sensitivity import Curve
from amc_mobile.types import ChannelGroup, Cost, NetworkGraph, Policy

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Change:
    """One group at `kept` channels instead of another width. A saving is positive, a further cost negative.

    `loss` is the further divergence, nats; None where the group was not measured alone, `latency_us` without a table.
    """

    kept: int
    loss: float | None
    latency_us: float | None
    macs: int
    params: int


@dataclass(frozen=True, slots=True)
class Reason:
    """One prunable group. `alone`: this group's width in the otherwise unpruned network, against the unpruned network.

    `wider` and `narrower`: one step of the grid, in the pruned network, against the pruned network; None at the end.
    """

    group: str
    channels: int
    kept: int
    alone: Change
    wider: Change | None
    narrower: Change | None


@dataclass(frozen=True, slots=True)
class Reasons:
    """The whole of why.json. `kept_by` says whose widths these are."""

    schema: int
    kept_by: str
    groups: tuple[Reason, ...]


def explain(
    network: NetworkGraph,
    kept: Sequence[int],
    grids: Sequence[Sequence[int]],
    curves: Mapping[str, Curve],
    tables: Tables,
    kept_by: str,
) -> Reasons:
    """The reasons of every prunable group. `grids` has one grid of widths per prunable group, `curves` are by group."""
    full = network.full().kept

    def reason(group: ChannelGroup, grid: Sequence[int]) -> Reason:
        curve, width = curves.get(group.name), kept[group.index]

        def change(base: Sequence[int], to: int) -> Change:
            before, after = (
                price(network, Policy(widths), tables) for widths in (tuple(base), replaced(base, group.index, to))
            )
            return _change(to, curve, base[group.index], before, after)

        above, below = bisect_right(grid, width), bisect_left(grid, width) - 1
        return Reason(
            group=group.name,
            channels=group.channels,
            kept=width,
            alone=change(full, width),
            wider=change(kept, grid[above]) if above < len(grid) else None,
            narrower=change(kept, grid[below]) if below >= 0 else None,
        )

    pairs = zip(network.prunable(), grids, strict=True)
    return Reasons(SCHEMA, kept_by, tuple(reason(group, grid) for group, grid in pairs))


def read_curves(path: Path) -> dict[str, Curve]:
    """The curves of sensitivity.json by group; none if no agent measured any. Raises: RunFolderError if damaged."""
    if not path.is_file():
        return {}
    try:
        entries = read_json(path)["groups"]
        return {item["group"]: Curve(item["group"], tuple(item["widths"]), tuple(item["losses"])) for item in entries}
    except (KeyError, TypeError) as error:
        raise RunFolderError(f"{path} is damaged; delete it, and what groups lose alone is not shown") from error


def _change(to: int, curve: Curve | None, width: int, before: Cost, after: Cost) -> Change:
    timed = before.latency_us is not None and after.latency_us is not None
    return Change(
        kept=to,
        loss=None if curve is None else curve.loss(to) - curve.loss(width),
        latency_us=(before.latency_us or 0.0) - (after.latency_us or 0.0) if timed else None,
        macs=before.macs - after.macs,
        params=before.params - after.params,
    )

"""The budget as a guarantee: which integer widths the agent may still choose, decided once and used everywhere.

He et al. 2018, Algorithm 1, bounds each action so that the budget can still be met if every later layer is pruned to
its limit. Here the bound is a bisection on the integer widths, rounding inside, under any cost that never falls when a
group keeps more channels; and it has a second side, so that episodes end on the budget and not far below it.
"""

from __future__ import annotations

import copy
import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from amc_mobile.cost.price import CostFunction, cost_function, joint_cost
from amc_mobile.cost.table import LatencyTable
from amc_mobile.cost.widths import level_grid, width_grid
from amc_mobile.errors import BudgetError
from amc_mobile.sections.budget import BUDGET_METRICS
from amc_mobile.sections.search import SearchConfig
from amc_mobile.types import Budget, Metric, NetworkGraph, Policy

Widths = tuple[int, ...]
LANDING = 0.99  # an episode ends at 99-100 % of the limit wherever the grid of widths is fine enough
_HALVINGS = 40  # of the scale in `project`: far finer than any grid of widths

_CONFIG_KEYS = {metric: key for key, metric in BUDGET_METRICS.items()}


def build_walls(
    network: NetworkGraph,
    budgets: Sequence[Budget],
    tables: Mapping[str, LatencyTable],
    config: SearchConfig,
    grids: Sequence[Widths] | None = None,
    *,
    landing: float | None = None,
) -> Walls:
    """The walls of one budget or of several at once.

    `tables` are found by the budgets' device names, "" being the run's own device. With one budget the walls price in
    its metric; with several they price in the largest share of any limit, and their limit is 1. The latency margin
    applies to every latency. `landing` replaces LANDING; 0 switches the lower wall off.

    Raises: BudgetError if a budget cannot be kept, or a latency has no table.
    """
    if grids is None and config.granularity == "weight":  # a group is a layer's weights, up to millions of them
        grids = [level_grid(group.channels, config.min_keep_ratio) for group in network.prunable()]
    costs = [cost_function(network, budget.metric, tables, budget.device) for budget in budgets]
    clock = cost_function(network, "latency_us", tables, next(iter(tables))) if tables else None
    single = [
        Walls(
            network,
            cost,
            budget.limit,
            config.min_keep_ratio,
            config.round_to,
            metric=budget.metric,
            margin=config.latency_margin if budget.metric == "latency_us" else 0.0,
            grids=grids,
            landing=landing,
            device=budget.device,
            latency=clock,
            whole=budget.whole,
        )
        for budget, cost in zip(budgets, costs, strict=True)
    ]  # each says by itself if it cannot be kept
    if len(single) == 1:
        return single[0]
    joint = joint_cost(costs, [walls.limit for walls in single])
    return Walls(
        network,
        joint,
        1.0,
        config.min_keep_ratio,
        config.round_to,
        grids=single[0].grids,
        landing=landing,
        latency=clock,
    )


class Walls:
    """Lower and upper wall of every decision, in the order in which the groups are decided.

    `cost` prices one width per group of the network, pinned groups included. A `widths` tuple here has one entry per
    PRUNABLE group; `decided` is its beginning.
    """

    def __init__(
        self,
        network: NetworkGraph,
        cost: CostFunction,
        limit: float,
        min_keep_ratio: float,
        round_to: int,
        *,
        metric: Metric = "latency_us",
        margin: float = 0.0,
        grids: Sequence[Widths] | None = None,
        landing: float | None = None,
        device: str = "",
        latency: CostFunction | None = None,
        whole: float | None = None,
    ) -> None:
        """`margin` is the share of the limit that no policy may use: room for what the cost function does not know.

        `grids` replace the widths that follow from `min_keep_ratio` and `round_to`. An episode ends above `landing`
        times the limit (LANDING unless given) wherever it can. `metric` and `device` name the limit in messages;
        `latency` is what a table says, whether or not it is limited; `whole` what shares of the limit are of, unless it
        is the original's price.

        Raises: BudgetError if even the smallest policy costs more than the limit; it names the reachable minimum.
        """
        self.network = network
        self.groups = network.prunable()
        if not self.groups:
            reasons = ", ".join(dict.fromkeys(group.reason for group in network.groups if group.reason))
            raise BudgetError(f"{network.name} has no channels that can be pruned ({reasons}); choose another network")
        self.grids = tuple(grids or (width_grid(group.channels, min_keep_ratio, round_to) for group in self.groups))
        self.channels: Widths = tuple(group.channels for group in self.groups)
        self.smallest: Widths = tuple(grid[0] for grid in self.grids)
        self.limit = limit * (1.0 - margin)
        self.latency = latency
        self._price = cost
        self.full_cost = self.cost(self.channels)
        self.smallest_cost = self.cost(self.smallest)
        self.floor = min((LANDING if landing is None else landing) * self.limit, self.full_cost)
        if self.smallest_cost > self.limit:
            raise BudgetError(self._unreachable(Budget(metric, limit, device, whole), min_keep_ratio, margin))

    def within(self, limit: float) -> Walls:
        """The same walls around another limit, which the smallest policy must keep; it has no margin of its own."""
        other = copy.copy(self)
        other.limit = max(limit, self.smallest_cost)
        other.floor = min(LANDING * other.limit, self.full_cost)
        return other

    def policy(self, widths: Sequence[int]) -> Policy:
        """The policy over all groups in which the prunable ones keep `widths` channels."""
        kept = [group.channels for group in self.network.groups]
        for group, width in zip(self.groups, widths, strict=True):
            kept[group.index] = width
        return Policy(tuple(kept))

    def ratios(self, widths: Sequence[int]) -> NDArray[np.float32]:
        """Widths as the keep ratios that an agent would have answered, (T,)."""
        shares = [width / full for width, full in zip(widths, self.channels, strict=True)]
        return np.array(shares, np.float32)

    def cost(self, widths: Sequence[int]) -> float:
        """What the widths cost, in the budget's metric."""
        return self._price(self.policy(widths).kept)

    def least(self, decided: Sequence[int]) -> float:
        """What the policy will cost at least: every group that is still to be decided is pruned to its limit."""
        return self.cost([*decided, *self.smallest[len(decided) :]])

    def most(self, decided: Sequence[int]) -> float:
        """What the policy will cost at most: no group that is still to be decided is pruned."""
        return self.cost([*decided, *self.channels[len(decided) :]])

    def bounds(self, decided: Sequence[int]) -> tuple[int, int]:
        """Smallest and largest width that the next group may keep.

        The upper wall is the guarantee and wins where a coarse grid leaves no width between the two.
        """
        grid = self.grids[len(decided)]
        lower, upper = self._bound_indices(decided)
        return grid[lower], grid[upper]

    def choose(self, decided: Sequence[int], action: float) -> int:
        """The width that a preserve ratio `action` in [0, 1] stands for: nearest on the grid, between the walls.

        Channels that cost nothing (the table is a staircase) are kept.
        """
        step = len(decided)
        grid = self.grids[step]
        lower, upper = self._bound_indices(decided)
        nearest = grid.index(_nearest(grid, action * self.channels[step]))
        return grid[self._raise_for_free(decided, max(lower, min(upper, nearest)), upper)]

    def carried_out(self, widths: Sequence[int]) -> Widths:
        """What an episode ends with that asks for these widths, one after the other."""
        decided: list[int] = []
        for wanted, full in zip(widths, self.channels, strict=True):
            decided.append(self.choose(decided, wanted / full))
        return tuple(decided)

    def holds(self, widths: Sequence[int]) -> bool:
        """Whether every width is on its grid and the cost within the limit."""
        on_grid = all(width in grid for width, grid in zip(widths, self.grids, strict=True))
        return on_grid and self.cost(widths) <= self.limit

    def project(self, proposal: Sequence[float]) -> Widths:
        """Legal widths on the budget, nearest to one common multiple of the proposed ones.

        A legal proposal that already lands on the budget comes back as it is.
        """
        rounded = self._scaled(proposal, 1.0)
        if tuple(proposal) == rounded and self.floor <= self.cost(rounded) <= self.limit:
            return rounded
        low, high = 0.0, max(full / max(width, 1e-9) for full, width in zip(self.channels, proposal, strict=True))
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if self.cost(self._scaled(proposal, middle)) <= self.limit else (low, middle)
        wanted = [high * width / full for full, width in zip(self.channels, proposal, strict=True)]
        return self.fill(self._scaled(proposal, low), lambda step, width: wanted[step] - width / self.channels[step])

    def fill(self, widths: Sequence[int], worth: Callable[[int, int], float]) -> Widths:
        """Spends what is left under the limit: raises one group after the other to its next width.

        `worth(step, width)` rates the raise of group `step` to `width`; the most worthwhile that fits is taken first.
        """
        filled = list(widths)
        while True:
            raises = [
                (step, grid[bisect_right(grid, filled[step])])
                for step, grid in enumerate(self.grids)
                if filled[step] < grid[-1]
            ]
            fitting = [raised for raised in raises if self.cost(replaced(filled, *raised)) <= self.limit]
            if not fitting:
                return tuple(filled)
            step, width = max(fitting, key=lambda pair: worth(*pair))
            filled[step] = width

    def _bound_indices(self, decided: Sequence[int]) -> tuple[int, int]:
        grid = self.grids[len(decided)]
        affordable = bisect_right(grid, self.limit, key=lambda width: self.least([*decided, width]))
        upper = max(affordable - 1, 0)
        lower = bisect_left(grid, self.floor, key=lambda width: self.most([*decided, width]))
        return min(lower, upper), upper

    def _raise_for_free(self, decided: Sequence[int], index: int, upper: int) -> int:
        grid, now = self.grids[len(decided)], [*decided, self.grids[len(decided)][index]]
        end = bisect_right(grid, self.least(now), index, upper + 1, key=lambda width: self.least([*decided, width]))
        return bisect_right(grid, self.most(now), index, end, key=lambda width: self.most([*decided, width])) - 1

    def _scaled(self, proposal: Sequence[float], scale: float) -> Widths:
        return tuple(_nearest(grid, scale * width) for grid, width in zip(self.grids, proposal, strict=True))

    def _unreachable(self, budget: Budget, min_keep_ratio: float, margin: float) -> str:
        metric = budget.metric
        kept_free = f" with a margin of {margin:.1%}" if margin else ""
        where = f" on {budget.device}" if budget.device else ""
        key = f"the latency of {budget.device} in budget.also" if budget.device else f"budget.{_CONFIG_KEYS[metric]}"
        whole = self.full_cost if budget.whole is None else budget.whole
        share = math.ceil(1000 * self.smallest_cost / whole / (1.0 - margin)) / 1000
        return (
            f"{self.network.name} cannot be pruned to {in_words(budget.limit, metric)}{where}: the smallest policy "
            f"costs {in_words(self.smallest_cost, metric)}, {share:.3f} of the original "
            f"{in_words(whole, metric)}{kept_free}; "
            f"set {key} to {share:.3f} or more, or search.min_keep_ratio below {min_keep_ratio:g}"
        )


def replaced(widths: Sequence[int], step: int, width: int) -> Widths:
    """The widths with another one at `step`.

    >>> replaced((8, 16, 24), 1, 12)
    (8, 12, 24)
    """
    return (*widths[:step], width, *widths[step + 1 :])


def _nearest(grid: Widths, wanted: float) -> int:
    """The width next to `wanted`; half way between two, the wider one."""
    above = min(bisect_left(grid, wanted), len(grid) - 1)
    below = max(above - 1, 0)
    return grid[below] if wanted - grid[below] < grid[above] - wanted else grid[above]


def in_words(value: float, metric: Metric) -> str:
    """A cost with its unit, for messages: "840 µs", "3.42 ms", "301 M MACs".

    >>> in_words(3420.0, "latency_us"), in_words(300_774_272, "macs")
    ('3.42 ms', '301 M MACs')
    """
    if metric == "latency_us":
        return f"{value:.3g} µs" if value < 1000 else f"{value / 1000:.3g} ms"
    unit = {"macs": " MACs", "params": " parameters", "bytes": "B", "memory_bytes": "B"}[metric]
    for prefix, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit.strip()}"

"""From a policy to its price, in every currency at once or in those that the budgets name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from amc_mobile.cost import polynomial
from amc_mobile.cost.formulas import macs, memory_bytes, params, size_bytes
from amc_mobile.cost.table import LatencyTable
from amc_mobile.errors import BudgetError
from amc_mobile.types import Cost, Metric, NetworkGraph, Policy

CostFunction = Callable[[Sequence[int]], float]  # channels kept by every group -> cost; never falls when one grows
Tables = Mapping[str, LatencyTable]  # by the name of the device; "" is the run's own

_OVER = 1.0 + 2.0**-52  # the least number above 1


def price(network: NetworkGraph, policy: Policy, tables: Tables | None = None) -> Cost:
    """Everything the policy costs; latency only where there is a table."""
    prices = {name: table.latency_us(network, policy.kept) for name, table in (tables or {}).items()}
    return Cost(
        macs=macs(network, policy.kept),
        params=params(network, policy.kept),
        bytes=size_bytes(network, policy.kept),
        latency_us=prices.pop("", None),
        memory_bytes=memory_bytes(network, policy.kept),
        elsewhere_us=prices,
    )


def cost_function(
    network: NetworkGraph, metric: Metric, tables: Tables | None = None, device: str = ""
) -> CostFunction:
    """The one cost that a budget limits. Raises: BudgetError for latency without a table, memory without moments."""
    if metric == "latency_us":
        table = (tables or {}).get(device)
        if table is None:
            where = f" of {device}" if device else ""
            raise BudgetError(
                f"a latency budget needs a latency table{where}; type `amc profile` first, or give --table FILE"
            )
        return lambda kept: table.latency_us(network, kept)
    if metric == "memory_bytes" and not network.moments:
        raise BudgetError(f"nothing is known of the activations of {network.name}; export it again with --fresh")
    match metric:
        case "macs":
            return polynomial.macs(network) or (lambda kept: float(macs(network, kept)))
        case "params":
            return polynomial.params(network)
        case "bytes":
            return polynomial.size_bytes(network)
        case "memory_bytes":
            return polynomial.memory_bytes(network)


def joint_cost(costs: Sequence[CostFunction], limits: Sequence[float]) -> CostFunction:
    """The largest share that any cost takes of its limit: at most 1 exactly if every cost is within its limit.

    It never falls when a group grows, because no cost does.
    """

    def joint(kept: Sequence[int]) -> float:
        return max(_share(cost(kept), limit) for cost, limit in zip(costs, limits, strict=True))

    return joint


def _share(cost: float, limit: float) -> float:
    share = cost / limit
    return max(share, _OVER) if cost > limit else share  # a cost one digit above its limit must not round down to 1

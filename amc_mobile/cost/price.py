"""From a policy to its price, in every currency at once or in the one that the budget names."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from amc_mobile.cost.formulas import macs, params, size_bytes
from amc_mobile.cost.table import LatencyTable
from amc_mobile.errors import BudgetError
from amc_mobile.types import Cost, Metric, NetworkGraph, Policy

CostFunction = Callable[[Sequence[int]], float]  # channels kept by every group -> cost; never falls when one grows


def price(network: NetworkGraph, policy: Policy, table: LatencyTable | None = None) -> Cost:
    """Everything the policy costs; latency only with a table."""
    return Cost(
        macs=macs(network, policy.kept),
        params=params(network, policy.kept),
        bytes=size_bytes(network, policy.kept),
        latency_us=None if table is None else table.latency_us(network, policy.kept),
    )


def cost_function(network: NetworkGraph, metric: Metric, table: LatencyTable | None = None) -> CostFunction:
    """The one cost that a budget limits. Raises: BudgetError for latency without a table."""
    if metric == "latency_us":
        if table is None:
            raise BudgetError("a latency budget needs a latency table; type `amc profile` first, or give --table FILE")
        return lambda kept: table.latency_us(network, kept)
    formula = {"macs": macs, "params": params, "bytes": size_bytes}[metric]
    return lambda kept: float(formula(network, kept))

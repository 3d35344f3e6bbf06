"""From the settings to the limits of a search: every budget in its metric's own unit, and the tables that price it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amc_mobile.errors import ConfigError, TableError
from amc_mobile.types import Budget

if TYPE_CHECKING:
    from collections.abc import Mapping

    from amc_mobile.cli.session import Session
    from amc_mobile.config import RunConfig
    from amc_mobile.cost.table import LatencyTable
    from amc_mobile.sections.search import SearchConfig
    from amc_mobile.types import Metric, NetworkGraph


def budgets(session: Session) -> tuple[Budget, ...]:
    """All limits: this device's, then those of further devices. Shares of a latency are of the original by the clock.

    Where nothing is limited (accuracy-guaranteed search), it is the latency that is to become small.
    """
    network, further = session.network, further_tables(session.config)
    priced = tables(session)
    limits = []
    for metric, amount in session.config.budget.limits().items():
        original = original_cost(network, metric, priced)
        limits.append(Budget(metric, amount.of(original), whole=original))
    for name, device in zip(further, session.config.budget.also, strict=True):
        original = original_cost(network, "latency_us", priced, name)
        limits.append(Budget("latency_us", device.limit().of(original), name, original))
    return tuple(limits) or (_no_limit(network, priced),)


def tables(session: Session) -> dict[str, LatencyTable]:
    """This run's latency table, if it has one, as "", and those of further devices by their names.

    Raises: TableError if one belongs to another network or is too wrong.
    """
    own = session.table()
    found = {} if own is None else {"": own}
    profile = session.config.profile
    for name, table in further_tables(session.config).items():
        try:
            table.require(table.device, session.model_sha256)
        except TableError as error:
            raise TableError(f"{name}: {error}") from error
        table.refuse(profile.max_error, force=profile.force)
        found[name] = table
    return found


def further_tables(config: RunConfig) -> dict[str, LatencyTable]:
    """The tables of further devices, by name. Raises: TableError, ConfigError if two have one name."""
    from amc_mobile.cost.table import LatencyTable

    found: dict[str, LatencyTable] = {}
    for device in config.budget.also:
        table = LatencyTable.load(device.table)
        name = device.name or table.device.name
        if name in found:
            raise ConfigError(f"two further devices are called {name}; give each [[budget.also]] a name of its own")
        found[name] = table
    return found


def original_cost(network: NetworkGraph, metric: Metric, priced: Mapping[str, LatencyTable], device: str = "") -> float:
    """What the unpruned network costs; its latency by the clock. Raises: BudgetError for a latency without a table."""
    from amc_mobile.cost.price import cost_function
    from amc_mobile.profile.predict import original_us

    if metric == "latency_us" and device in priced:
        return original_us(priced[device], network)
    return cost_function(network, metric, priced, device)(network.full().kept)


def _no_limit(network: NetworkGraph, priced: Mapping[str, LatencyTable]) -> Budget:
    """A latency that the unpruned network keeps, by the clock and by the table, which may differ."""
    from amc_mobile.cost.price import cost_function

    predicted = cost_function(network, "latency_us", priced)(network.full().kept)
    return Budget("latency_us", max(predicted, original_cost(network, "latency_us", priced)))


def search_settings(config: RunConfig) -> SearchConfig:
    """The search's settings, with the widths that suit every device."""
    rule = config.search_widths()
    return config.search.model_copy(update={"min_keep_ratio": rule.min_keep_ratio, "round_to": rule.round_to})

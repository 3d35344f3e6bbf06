"""Is a table right about networks it has never seen? They are measured on the device and held against its word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from amc_mobile.cost.formulas import macs
from amc_mobile.cost.table import CarrierPoint, LatencyTable, Validation
from amc_mobile.device.protocol import Device, Progress
from amc_mobile.profile.campaign import SENTINEL, ChunkState, Plan, summarise
from amc_mobile.profile.campaign_log import Log
from amc_mobile.profile.fit import errors_of, judge
from amc_mobile.profile.measuring import Watch, measure, turns_of
from amc_mobile.profile.predict import macs_line, original_us, predict_us
from amc_mobile.profile.variants import Variants
from amc_mobile.sections.profile import ProfileConfig
from amc_mobile.types import Policy


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What came out. `drift` is the original's time now / when the table was measured; predictions were brought to it.

    `prices` are what the search would have paid for the same networks: the table's prices, which never fall with a
    width, instead of the laws behind them.
    """

    validation: Validation
    labels: tuple[str, ...]
    prices: tuple[CarrierPoint, ...]
    drift: float
    chunks: tuple[ChunkState, ...]

    @property
    def price_mape(self) -> float:
        """Mean |error| of the prices that the search sees."""
        return float(np.abs(errors_of(self.prices)).mean())


def hold_out(
    variants: Variants,
    device: Device,
    table: LatencyTable,
    policies: Mapping[str, Policy],
    config: ProfileConfig,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    watch: Watch | None = None,
    checkpoint: Path | None = None,
) -> HeldOut:
    """Times the policies in interleaved, shuffled rounds beside the full network, and compares.

    A shared or warm device is some percent faster or slower another day, all networks alike: the full network, timed
    again here, says by how much. Raises: DeviceError, RunFolderError.
    """
    network = variants.traced.network
    plan = Plan({SENTINEL: network.full(), **policies}, config.rounds, seed, original_us(table, network))
    protocol = turns_of(config, seed)
    info = device.info()
    identity = {"held out of": table.model_sha256, "device": info.key(), "cores": info.cores, "policies": plan.policies}
    log = Log(checkpoint, {**identity, "protocol": protocol, "rounds": config.rounds})
    measure(variants, device, plan, protocol, log, progress, rows="none", watch=watch)
    summary = summarise(plan, log.chunks)
    drift = summary.clock_us[SENTINEL] / original_us(table, network)
    line = macs_line(table)
    clocks = {label: summary.clock_us[label] for label in policies}

    def points(word: Mapping[str, float]) -> tuple[CarrierPoint, ...]:
        return tuple(CarrierPoint(clock, drift * word[label]) for label, clock in clocks.items())

    laws = points({label: predict_us(table, network, policy.kept) for label, policy in policies.items()})
    by_macs = points({label: line(macs(network, policy.kept)) for label, policy in policies.items()})
    prices = points({label: table.latency_us(network, policy.kept) for label, policy in policies.items()})
    return HeldOut(
        judge(laws, by_macs, len(plan.policies), summary.noise_floor), tuple(policies), prices, drift, summary.states
    )

"""How time is learnt: carriers on the device, laws fitted to what they took, a table that knows how wrong it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from amc_mobile.config import ProfileConfig
from amc_mobile.cost.formulas import macs
from amc_mobile.cost.table import LatencyTable
from amc_mobile.device.protocol import Device, Progress
from amc_mobile.errors import DeviceError
from amc_mobile.graph.traced import TracedGraph
from amc_mobile.profile.campaign import SENTINEL, Chunk, Plan, Summary, summarise
from amc_mobile.profile.campaign_log import Log, chunk_as_plain
from amc_mobile.profile.carriers import draw, smallest
from amc_mobile.profile.fit import Fitter, Observations, validate
from amc_mobile.profile.identity import structure_sha256
from amc_mobile.profile.law import calibrate
from amc_mobile.profile.measuring import measure
from amc_mobile.profile.tabulate import describe_law, tabulate, widths_worth_choosing
from amc_mobile.profile.variants import Variants
from amc_mobile.runs import plain
from amc_mobile.types import Policy, TimingProtocol


def profile(
    traced: TracedGraph,
    device: Device,
    config: ProfileConfig,
    *,
    seed: int,
    min_keep_ratio: float,
    round_to: int,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
) -> LatencyTable:
    """The network's latency table on this device, at every width of `width_grid(channels, min_keep_ratio, round_to)`.

    It is returned however wrong it is: save it, then `refuse` it. `checkpoint` is a file in which the measurements
    pile up: after a kill, the same call goes on from there. It stays when the table is made, for the caller to delete.

    Raises: DeviceError, RunFolderError.
    """
    network, info, model_sha256 = traced.network, device.info(), structure_sha256(traced.model)
    policies = _policies(traced, config.carriers, seed, min_keep_ratio, round_to)
    plan = Plan(policies, config.rounds, seed)
    protocol = TimingProtocol(1, config.warmups, config.runs, config.min_time_s, seed=seed)
    identity = {
        "campaign": 1,
        "device": info.key(),
        "model": model_sha256,
        "protocol": protocol,
        "rounds": config.rounds,
        "seed": seed,
        "policies": policies,
    }
    log = Log(checkpoint, identity)
    measure(Variants(traced), device, plan, protocol, log, progress)
    summary = summarise(plan, log.chunks)
    seen = _observations(policies, summary)
    law = Fitter(network, seen).fit(range(len(policies)))
    widths = widths_worth_choosing(network, law, min_keep_ratio, round_to)
    rows, rest_us = tabulate(network, law, widths)
    evidence = {
        **_circumstances(plan, protocol, log.chunks, summary),
        "min_keep_ratio": min_keep_ratio,
        "round_to": round_to,
        "law": describe_law(law),
        "macs_affine": _macs_line(traced, seen),
        "chunks": [chunk_as_plain(chunk) for chunk in log.chunks],
    }
    return LatencyTable(
        model=network.name,
        model_sha256=model_sha256,
        device=info,
        rows=rows,
        rest_us=rest_us,
        validation=validate(network, seen, summary.noise_floor),
        widths={group.name: widths[group.index] for group in network.prunable()},
        evidence=plain(evidence),
    )


def _policies(traced: TracedGraph, carriers: int, seed: int, min_keep_ratio: float, round_to: int) -> dict[str, Policy]:
    """The networks of a campaign: full, smallest, and random ones between them."""
    network = traced.network
    if not network.prunable():
        reasons = "; ".join(sorted({group.reason for group in network.groups if group.reason})[:3])
        raise DeviceError(f"nothing in {network.name} can be pruned, so there is nothing to measure ({reasons})")
    random = draw(network, carriers, seed, min_keep_ratio, round_to)
    return {
        SENTINEL: network.full(),
        "smallest": smallest(network, min_keep_ratio, round_to),
        **{f"carrier {number}": policy for number, policy in enumerate(random)},
    }


def _observations(policies: Mapping[str, Policy], summary: Summary) -> Observations:
    keys = dict.fromkeys(key for label in policies for key in summary.rows_us[label])
    return Observations(
        policies=tuple(policies.values()),
        clock_us=np.array([summary.clock_us[label] for label in policies]),
        rows_us={key: np.array([summary.rows_us[label].get(key, 0.0) for label in policies]) for key in keys},
        fixed=2,
    )


def _circumstances(plan: Plan, protocol: TimingProtocol, chunks: list[Chunk], summary: Summary) -> dict[str, Any]:
    """Who measured when, how and under which conditions, and what each network took."""
    return {
        "tool": f"amc-mobile {metadata.version('amc-mobile')}",
        "date_utc": chunks[-1].conditions.time_utc,
        "seed": plan.seed,
        "protocol": protocol,
        "rounds_wanted": plan.rounds,
        "rounds_used": summary.rounds,
        "drift": {str(number): state.drift for number, state in summary.states.items()},
        "load": {str(number): state.load for number, state in summary.states.items()},
        "disturbed": {str(number): state.reason for number, state in summary.states.items() if state.reason},
        "drift_corrected": summary.corrected,
        "conditions": {"start": chunks[0].conditions, "end": chunks[-1].conditions},
        "networks": {label: policy.kept for label, policy in plan.policies.items()},
        "measured_us": summary.clock_us,
    }


def _macs_line(traced: TracedGraph, seen: Observations) -> dict[str, float]:
    """The best straight line through the MACs, the baseline that the table has to beat."""
    counts = np.array([macs(traced.network, policy.kept) for policy in seen.policies], np.float64)
    line = calibrate(counts, seen.clock_us)
    return {
        "constant_us": line.constant_us,
        "us_per_million_macs": line.scale * 1e6 if math.isfinite(line.scale) else 0.0,
    }

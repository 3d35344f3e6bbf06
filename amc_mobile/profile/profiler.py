"""How time is learnt: carriers on the device, laws fitted to what they took, a table that knows how wrong it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from amc_mobile.cost.formulas import macs
from amc_mobile.cost.table import LatencyTable
from amc_mobile.device.protocol import Device, Progress
from amc_mobile.errors import DeviceError
from amc_mobile.graph.traced import TracedGraph
from amc_mobile.measurements import DeviceInfo, TimingProtocol
from amc_mobile.profile.campaign import SENTINEL, Chunk, Plan, summarise
from amc_mobile.profile.campaign_log import Log, chunk_as_plain
from amc_mobile.profile.carriers import draw, smallest
from amc_mobile.profile.fit import Fitter, Observations, validate
from amc_mobile.profile.identity import structure_sha256
from amc_mobile.profile.law import calibrate
from amc_mobile.profile.measuring import Rows, Watch, measure, turns_of
from amc_mobile.profile.observed import observe
from amc_mobile.profile.predict import original_us
from amc_mobile.profile.tabulate import describe_law, tabulate, widths_worth_choosing
from amc_mobile.profile.variants import Variants
from amc_mobile.runs import plain
from amc_mobile.sections.profile import ProfileConfig
from amc_mobile.types import NetworkGraph, Policy


def profile(
    traced: TracedGraph,
    device: Device,
    config: ProfileConfig,
    *,
    seed: int,
    min_keep_ratio: float,
    round_to: int,
    progress: Progress | None = None,
    watch: Watch | None = None,
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
    protocol = turns_of(config, seed)
    if config.method == "nodes" and not info.node_times:
        raise DeviceError(f"{info.name} does not tell the times of nodes inside a network; type --method layers")
    method: Rows = "nodes" if config.method == "nodes" or (config.method == "auto" and info.node_times) else "layers"
    identity = {
        "campaign": 3,
        "rows": method,
        "device": info.key(),
        "cores": info.cores,
        "model": model_sha256,
        "protocol": protocol,
        "rounds": config.rounds,
        "seed": seed,
        "policies": policies,
    }
    log = Log(checkpoint, identity)
    measure(Variants(traced, info), device, plan, protocol, log, progress, rows=method, watch=watch)
    circumstances = {
        **_circumstances(plan, protocol, log.chunks),
        "method": method,
        "min_keep_ratio": min_keep_ratio,
        "round_to": round_to,
        "chunks": [chunk_as_plain(chunk) for chunk in log.chunks],
    }
    return fitted(network, info, model_sha256, plain(circumstances))


def extend(
    table: LatencyTable,
    traced: TracedGraph,
    device: Device,
    policies: Mapping[str, Policy],
    config: ProfileConfig,
    *,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
) -> LatencyTable:
    """The table, fitted again to what it was made from and to these networks, which are measured now (LATENCY 3.7).

    The full network, measured beside them, brings them to the clock of the table. A checkpoint serves as in `profile`.
    Raises: DeviceError, RunFolderError, TableError if the table lacks its raw measurements.
    """
    info, evidence = device.info(), table.evidence
    table.require(info, structure_sha256(traced.model))
    number = 1 + len(evidence.get("further", ()))
    plan = Plan(
        {SENTINEL: traced.network.full(), **policies}, config.rounds, number, original_us(table, traced.network)
    )
    protocol = turns_of(config, number)
    identity = {"added to": evidence["chunks"][0], "number": number, "policies": plan.policies, "cores": info.cores}
    log = Log(checkpoint, {**identity, "protocol": protocol, "rounds": config.rounds})
    measure(Variants(traced, info), device, plan, protocol, log, progress, rows=evidence["method"])
    more = {**_circumstances(plan, protocol, log.chunks), "chunks": [chunk_as_plain(chunk) for chunk in log.chunks]}
    further = [*evidence.get("further", ()), plain(more)]
    return fitted(traced.network, table.device, table.model_sha256, {**evidence, "further": further})


def fitted(network: NetworkGraph, device: DeviceInfo, model_sha256: str, evidence: Mapping[str, Any]) -> LatencyTable:
    """The table that follows from measurements: laws, prices, and how wrong they are. `evidence` holds plain values.

    Raises: TableError if the measurements are not in it, DeviceError if they do not tell of the network's layers.
    """
    seen, noise_floor = observe(evidence)
    law = Fitter(network, seen).fit(range(len(seen.policies)))
    min_keep_ratio, round_to = evidence["min_keep_ratio"], evidence["round_to"]
    widths = widths_worth_choosing(network, law, min_keep_ratio, round_to)
    rows, rest_us = tabulate(network, law, widths)
    return LatencyTable(
        model=network.name,
        model_sha256=model_sha256,
        device=device,
        rows=rows,
        rest_us=rest_us,
        validation=validate(network, seen, noise_floor),
        widths={group.name: widths[group.index] for group in network.prunable()},
        evidence=plain({**evidence, "law": describe_law(law), "macs_affine": _macs_line(network, seen)}),
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


def _circumstances(plan: Plan, protocol: TimingProtocol, chunks: list[Chunk]) -> dict[str, Any]:
    """Who measured when, how and under which conditions, and what each network took."""
    summary = summarise(plan, chunks)
    return {
        "tool": f"amc-mobile {metadata.version('amc-mobile')}",
        "date_utc": chunks[-1].conditions.time_utc,
        "seed": plan.seed,
        "protocol": protocol,
        "rounds_wanted": plan.rounds,
        "reference_us": plan.reference_us,
        "steadiness": [
            {"round": chunk.round, "chunk": chunk.index, **asdict(state), "used": place in summary.used}
            for place, (chunk, state) in enumerate(zip(chunks, summary.states, strict=True))
        ],
        "drift_corrected": summary.corrected,
        "conditions": {"start": chunks[0].conditions, "end": chunks[-1].conditions},
        "networks": {label: policy.kept for label, policy in plan.policies.items()},
        "measured_us": summary.clock_us,
    }


def _macs_line(network: NetworkGraph, seen: Observations) -> dict[str, float]:
    """The best straight line through the MACs, the baseline that the table has to beat."""
    counts = np.array([macs(network, policy.kept) for policy in seen.policies], np.float64)
    line = calibrate(counts, seen.clock_us)
    return {
        "constant_us": line.constant_us,
        "us_per_million_macs": line.scale * 1e6 if math.isfinite(line.scale) else 0.0,
    }

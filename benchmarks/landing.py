"""Where warm-up episodes land: MobileNet-V2 at half the latency, by the table in latency_tables/.

    python benchmarks/landing.py [--json] [--episodes N] [--seeds N] [--latency SHARE] [--table FILE] [--data DIR]

An episode walks the groups as DDPG's warm-up does: truncated-normal noise of width 0.5 around the untrained actor, the
actor of each seed being another. No image is needed, and no training: weights change neither structure nor latency, so
they are random, and the table is checked to be of this structure. --data is accepted, and not read.

Landing is counted against the limit that the user asks for, a share of the original's latency by the clock. The search
leaves `search.latency_margin` (1 %) of that limit free, so that episodes can land at most at 99 % of it.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from amc_mobile.cost.table import LatencyTable
from amc_mobile.export.to_onnx import export
from amc_mobile.graph.trace import trace
from amc_mobile.models.zoo import find
from amc_mobile.profile.identity import structure_sha256
from amc_mobile.profile.predict import original_us
from amc_mobile.runs import write_json
from amc_mobile.search.budget import Walls, Widths, build_walls
from amc_mobile.search.ddpg import DDPG, one_thread
from amc_mobile.search.state import States
from amc_mobile.sections.search import SearchConfig
from amc_mobile.types import Budget

HERE = Path(__file__).parent
TABLE = HERE.parent / "latency_tables" / "amd-epyc" / "mobilenet_v2--onnxruntime-cpu-fp32-t1.json"
LANDED = (0.97, 1.0)


def main() -> None:
    """Plays the episodes, writes the raw shares and prints what they say."""
    arguments = _arguments()
    table = LatencyTable.load(arguments.table)
    entry = find(table.model)
    model = export(entry.build().eval(), entry.input_shape)
    table.require(table.device, structure_sha256(model))
    network = trace(model, entry.name).network
    config = SearchConfig()
    limit_us = arguments.latency * original_us(table, network)
    walls = build_walls(network, [Budget("latency_us", limit_us)], {"": table}, config)
    with one_thread():
        episodes = {seed: warm_up(walls, config, arguments.episodes, seed) for seed in range(arguments.seeds)}
    shares = {seed: [walls.cost(widths) / limit_us for widths in played] for seed, played in episodes.items()}
    found = summary(shares)
    found |= {
        "network": table.model,
        "groups": len(walls.groups),
        "table": arguments.table.name,
        "device": table.device.model,
        "budget": arguments.latency,
        "limit_us": limit_us,
        "latency_margin": config.latency_margin,
        "episodes": arguments.episodes,
        "different": len({widths for played in episodes.values() for widths in played}),
    }
    write_json(arguments.out, {**found, "raw": [{"seed": seed, "shares": part} for seed, part in shares.items()]})
    print(json.dumps(found) if arguments.json else _in_words(found))


def warm_up(walls: Walls, config: SearchConfig, episodes: int, seed: int) -> list[Widths]:
    """The widths of the first episodes of a search that does not know anything yet."""
    states = States(walls, latency=True)
    agent = DDPG(states.features, len(walls.groups), config, seed)
    played = []
    for _ in range(episodes):
        decided: list[int] = []
        for _ in walls.groups:
            decided.append(walls.choose(decided, agent.act(states(decided), config.noise_sigma)))
        played.append(tuple(decided))
    return played


def summary(shares: dict[int, list[float]]) -> dict[str, Any]:
    """Where all episodes land, as shares of the limit, and for each seed how many between 97 and 100 % of it."""
    low, high = LANDED
    every = np.concatenate(list(shares.values()))
    return {
        "landed": float(np.mean((every >= low) & (every <= high))),
        "exceeded": int(np.sum(every > high)),
        "mean": float(every.mean()),
        "least": float(every.min()),
        "most": float(every.max()),
        "landed_by_seed": {str(seed): float(np.mean(np.array(part) >= low)) for seed, part in shares.items()},
    }


def _in_words(found: dict[str, Any]) -> str:
    by_seed = ", ".join(f"{share:.1%}" for share in found["landed_by_seed"].values())
    return (
        f"{found['landed']:.1%} of the episodes land between 97 % and 100 % of the limit (by seed: {by_seed}), "
        f"{found['exceeded']} exceed it\n"
        f"they land at {found['mean']:.2%} of it on average, from {found['least']:.2%} to {found['most']:.2%}; "
        f"{found['different']} different policies\n"
        f"{found['network']}, {found['groups']} groups, {found['budget']:.0%} of the latency by {found['table']}"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--latency", type=float, default=0.5)
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--data", type=Path, help="not needed")
    parser.add_argument("--out", type=Path, default=HERE / "raw" / "landing.json")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

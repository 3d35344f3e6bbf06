"""Hand-made rules beside AMC: CIFAR networks at half their MACs, before and after fine-tuning.

    python benchmarks/rules.py --data DIR [--networks resnet56,resnet20,plain20] [--seeds 0,1,2] [--epochs 2] [--json]

All have the same budget, evaluator, least-squares repair and fine-tuning. "uniform" prunes every group by one ratio,
"shallow" and "deep" prune the first or the last layers more, "sensitivity" cuts each group as far as its own loss
allows. "amc" is what `amc search` gives by itself (`--agent auto`: AMC's DDPG among its opponents and a descent from
the best, refined at the end), "unrefined" the same without that end, "ddpg" (in --rules on demand) AMC as published,
alone, for 400 episodes. A seed draws the images for search and calibration, the agents' chance, and the order of the
training images. "original" is fine-tuned alike, for comparison: weights that are not at their best gain from any
training.

plain20 has no weights in DIR: `amc run configs/plain20_cifar10.toml --data DIR` trains it; give its original.pt as
--plain20. Everything lies in --work and is resumed from there, so that several processes can share the work: first
--only-search for every network and seed, then the rows, each process with a --raw of its own, then all again for the
table. The raw result is benchmarks/raw/rules.json.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import copy
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from answers import Difference, Right, difference, right
from provenance import machine, provenance

from amc_mobile import config as configuration
from amc_mobile.cli.decisions import repaired, search_on
from amc_mobile.cli.explaining import winner
from amc_mobile.cli.pipeline import Pipeline, open_run
from amc_mobile.cli.session import Session
from amc_mobile.cli.settings import override, with_data_folder
from amc_mobile.cli.training import trained
from amc_mobile.cost.price import price
from amc_mobile.device.protocol import Progress
from amc_mobile.export.weights import folded_weights
from amc_mobile.runs import RunFolder, read_json, write_json
from amc_mobile.types import Policy

HERE = Path(__file__).parent
CONFIG = HERE.parent / "configs" / "resnet56_cifar10.toml"
WEIGHTS = {"resnet56": "cifar10_resnet56_jpegft.pt", "resnet20": "cifar10_resnet20_jpegft.pt"}
HAND_MADE = ("uniform", "shallow", "deep", "sensitivity")
ORIGINAL, OURS, UNREFINED = "original", "amc", "unrefined"
DEFAULT = (ORIGINAL, OURS, UNREFINED, *HAND_MADE)
DDPG: dict[str, object] = {"search.agent": "ddpg", "search.episodes": 400, "search.warmup_episodes": 100}


@dataclass(frozen=True)
class Row:
    """One network, one seed, one rule. Differences are with their 95 % intervals, on the same test images."""

    network: str
    seed: int
    rule: str
    kept: tuple[int, ...]
    macs_share: float
    params_share: float
    before: float  # top-1 on the test images, before fine-tuning
    after: float
    loss_before: Difference  # of the original (never fine-tuned) over this one
    loss_after: Difference
    test_images: int
    finetune_s: float  # wall seconds, on whatever else the machine was doing
    machine: str


class Bench:
    """One network under one seed: searched once, so that every rule's policy is at hand."""

    def __init__(self, network: str, seed: int, arguments: argparse.Namespace) -> None:
        config = override(
            with_data_folder(configuration.load(CONFIG), arguments.data),
            {
                "model.name": network,
                "model.weights": arguments.plain20 if network == "plain20" else arguments.data / WEIGHTS[network],
                "out": arguments.work / f"{network}-{seed}",
                "seed": seed,
                "finetune.epochs": arguments.epochs,
            },
        )
        self.network, self.seed, self.config = network, seed, config
        self.folder = RunFolder(config.out)

    @cached_property
    def session(self) -> Session:
        """The run, searched."""
        pipeline = Pipeline(open_run(self.config, update=True), self.config)
        if not pipeline.finished("refine"):  # else other processes may be at work in the folder
            pipeline.run(("train", "graph", "calibrate", "search", "refine"))
        return Session(self.folder, self.config)

    def row(self, rule: str) -> Row:
        """The rule's row; of a benchmark that was interrupted, the one that it has written down."""
        path = self.folder.root / f"{rule}.row.json"
        if path.is_file():
            return Row(**read_json(path))
        policy, whole = self._policy(rule), self.session.traced.network.full()
        pruned = self.session.original_onnx if policy == whole else self.session.final(policy)
        before = right(self.session, pruned)[0]
        started = time.monotonic()
        after = right(self.session, self._finetuned(rule, policy, pruned))[0]
        finetune_s = time.monotonic() - started
        np.savez(self._answers(rule), before=before, after=after)
        found, all_of_it = (price(self.session.network, each) for each in (policy, whole))
        row = Row(
            self.network,
            self.seed,
            rule,
            policy.kept,
            found.macs / all_of_it.macs,
            found.params / all_of_it.params,
            float(before.mean()),
            float(after.mean()),
            difference(self._original, before),
            difference(self._original, after),
            len(before),
            finetune_s,
            machine(),
        )
        write_json(path, row)
        self._checkpoint(rule).unlink(missing_ok=True)
        return row

    def right(self, rule: str, when: str) -> Right:
        """Which test images the rule's network answers rightly, "before" or "after" fine-tuning."""
        answers: Right = np.load(self._answers(rule))[when]
        return answers

    def _policy(self, rule: str) -> Policy:
        session = self.session
        if rule == ORIGINAL:
            return session.traced.network.full()
        if rule == OURS:
            return winner(self.folder, self.config)
        found = read_json(self.folder.search)
        if rule == "ddpg":
            folder = RunFolder(self.folder.root / "ddpg").create()
            search_on(Session(self.folder, override(self.config, DDPG)), progress(f"{self.folder.root} ddpg"), folder)
            found = read_json(folder.search)
        own = rule in ("ddpg", UNREFINED)
        trial = found["best"] if own else next(trial for trial in found["opponents"] if trial["agent"] == rule)
        return Policy(tuple(trial["kept"]))

    def _finetuned(self, rule: str, policy: Policy, pruned: onnx.ModelProto) -> onnx.ModelProto:
        """The network after the run's epochs, as a graph."""
        session, tell = self.session, progress(f"{self.folder.root} {rule}")
        channels = session.pruner.channels(policy)
        module = copy.deepcopy(session.original) if rule == ORIGINAL else repaired(session, channels, tell)
        module = trained(session, module, tell, checkpoint=self._checkpoint(rule))
        return session.traced.slice(channels, folded_weights(module, pruned))

    def _answers(self, rule: str) -> Path:
        return self.folder.root / f"{rule}.answers.npz"

    def _checkpoint(self, rule: str) -> Path:
        return self.folder.root / f"{rule}.partial"

    @cached_property
    def _original(self) -> Right:
        return right(self.session, self.session.original_onnx)[0]


def summary(benches: Sequence[Bench], rows: Sequence[Row]) -> list[dict[str, Any]]:
    """For each network and rule: mean and spread over the seeds, and what AMC is ahead of the rule."""
    cells: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        cells.setdefault((row.network, row.rule), []).append(row)
    return [
        {
            "network": network,
            "rule": rule,
            "seeds": len(found),
            **{
                name: [statistics.mean(values), statistics.pstdev(values)]
                for name in ("macs_share", "params_share", "before", "after")
                for values in [[getattr(row, name) for row in found]]
            },
            **{f"amc_ahead_{when}": _ahead(benches, network, rule, when) for when in ("before", "after")},
        }
        for (network, rule), found in cells.items()
    ]


def _ahead(benches: Sequence[Bench], network: str, rule: str, when: str) -> Difference | None:
    """By how much AMC is ahead of a rule: its interval is over seeds and test images."""
    if rule in (OURS, ORIGINAL):
        return None
    ours, theirs = (
        np.stack([bench.right(name, when) for bench in benches if bench.network == network]) for name in (OURS, rule)
    )
    return difference(ours, theirs)


def in_words(table: Sequence[dict[str, Any]]) -> str:
    """The table for people."""
    lines = [f"{'network':<10} {'rule':<12} {'MACs':>6} {'params':>6} {'before':>14} {'after':>14}  AMC ahead, after"]
    for row in table:
        before, after = (f"{row[when][0]:.1%} ± {row[when][1]:.1%}" for when in ("before", "after"))
        ahead = row["amc_ahead_after"]
        lines.append(
            f"{row['network']:<10} {row['rule']:<12} {row['macs_share'][0]:>6.1%} {row['params_share'][0]:>6.1%} "
            f"{before:>14} {after:>14}  "
            + ("" if ahead is None else f"{ahead[0]:+.1%} ({ahead[1]:+.1%} to {ahead[2]:+.1%})")
        )
    return "\n".join(lines)


def progress(what: str) -> Progress:
    """Says on stderr, twice a minute at most, how far `what` is."""
    last = [0.0]

    def tell(done: int, total: int, detail: str) -> None:
        if time.monotonic() - last[0] > 30:
            last[0] = time.monotonic()
            print(f"{what}: {done}/{total} {detail}", file=sys.stderr, flush=True)

    return tell


def main() -> None:
    """Does what is not done yet, and writes the raw result after every row."""
    arguments = _arguments()
    benches: list[Bench] = []
    rows: list[Row] = []
    found: dict[str, Any] = {}
    for seed in map(int, arguments.seeds.split(",")):
        for network in arguments.networks.split(","):
            bench = Bench(network, seed, arguments)
            if arguments.only_search:
                print(f"{bench.session.folder.root} is searched", file=sys.stderr)
                continue
            rows += [bench.row(rule) for rule in arguments.rules.split(",")]
            benches.append(bench)
            found = {"epochs": arguments.epochs, "rows": [asdict(row) for row in rows], "table": summary(benches, rows)}
            write_json(arguments.raw, {**provenance(), **found})
    if found:
        print(json.dumps(found) if arguments.json else in_words(found["table"]))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with weights and images")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--networks", default="resnet56,resnet20", help="comma-separated (default: %(default)s)")
    parser.add_argument("--plain20", type=Path, help="weights of plain20")
    parser.add_argument("--seeds", default="0,1,2", help="default: %(default)s")
    parser.add_argument("--rules", default=",".join(DEFAULT), help="default: %(default)s")
    parser.add_argument("--only-search", action="store_true", help="no rows yet")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path("runs/rules"))
    parser.add_argument("--raw", type=Path, default=HERE / "raw" / "rules.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()

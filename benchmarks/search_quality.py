"""Who searches best: every agent under the same evaluator, budget and number of evaluations, before any fine-tuning.

    python benchmarks/search_quality.py --data FOLDER [--json] [--only mobilenet_v2] [--agents auto,ddpg] [--seeds 3]

Networks and images are those of configs/*.toml, with fewer images to score on: ResNet-20 and ResNet-56 (CIFAR-10) at
50 % MACs, MobileNet-V2 (ImageNet images) at 70 % and 60 % MACs and at 70 % latency on this machine. Agents may evaluate
EVALUATIONS different networks each, sensitivities included; "ddpg" warms up in a fifth of them, "ddpg-warm" plays 100
episodes at most. "ddpg-400" is AMC as published: 400 episodes, 100 of them warm-up, however many networks that are.
What differs between seeds is the agent's chance; images and calibration are the same. Scores of policies that several
agents ask for are taken over, and their seconds are counted for each of them.

Everything lies in --work and is resumed from there. The raw result is written to benchmarks/raw/search_quality.json.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
import statistics
import sys
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from amc_mobile import config as configuration
from amc_mobile.cli.budgets import budgets, search_settings, tables
from amc_mobile.cli.pipeline import Pipeline, open_run
from amc_mobile.cli.session import Session
from amc_mobile.cli.settings import override, with_data_folder
from amc_mobile.config import RunConfig
from amc_mobile.runs import RunFolder, write_json
from amc_mobile.search.evaluator import PolicyEvaluator, PrunedEvaluator
from amc_mobile.search.run import search
from amc_mobile.trials import Trial
from amc_mobile.types import Policy, Score

HERE = Path(__file__).parent
EVALUATIONS = 150
PUBLISHED = "ddpg-400"  # AMC as published
USUAL: dict[str, object] = {"evaluations": EVALUATIONS, "episodes": 400, "warmup_episodes": EVALUATIONS // 5}
SCHEDULES: dict[str, dict[str, object]] = {  # of those who play by another one
    "ddpg-warm": {"evaluations": EVALUATIONS, "episodes": 100},
    PUBLISHED: {"agent": "ddpg", "evaluations": None, "episodes": 400, "warmup_episodes": 100},
}
AGENTS = (
    *("uniform", "shallow", "deep", "random", "sensitivity", "greedy", "knapsack", "netadapt"),
    *("ddpg", "ddpg-warm", "auto", PUBLISHED),
)
YARDSTICK = {0.7: 0.551, 0.6: 0.400}  # MobileNet-V2's top-1 at .69 and .60 of the MACs: a prototype's greedy search


@dataclass(frozen=True)
class Setting:
    """One network under one budget."""

    network: str
    config: str
    metric: str
    budget: float
    changes: dict[str, object]
    published: int  # seeds of AMC as published, which takes longest


CIFAR: dict[str, object] = {"data.search_images": 500}
FEWER: dict[str, object] = {"data.search_images": 300}  # of a network three times as deep
IMAGENET: dict[str, object] = {"data.search_images": 100}

SETTINGS = (
    Setting(
        "resnet20",
        "resnet56_cifar10.toml",
        "macs",
        0.5,
        CIFAR | {"model.name": "resnet20", "model.weights": Path("cifar10_resnet20_jpegft.pt")},
        published=3,
    ),
    Setting("resnet56", "resnet56_cifar10.toml", "macs", 0.5, FEWER, published=3),
    Setting("mobilenet_v2", "mobilenet_v2_imagenet.toml", "macs", 0.7, IMAGENET, published=1),
    Setting("mobilenet_v2", "mobilenet_v2_imagenet.toml", "macs", 0.6, IMAGENET, published=1),
    Setting("mobilenet_v2", "mobilenet_v2_imagenet.toml", "latency", 0.7, IMAGENET, published=0),
)


@dataclass(frozen=True)
class Row:
    """What one agent found. `seconds` include the evaluations whose scores were taken over from another agent."""

    network: str
    metric: str
    budget: float
    agent: str
    seed: int
    reward: float
    search_accuracy: float
    test_accuracy: float
    evaluations: int
    seconds: float
    cpu_seconds: float
    found_by: str
    cost_share: float  # of the budget


class Shared:
    """One network's evaluator, which remembers policies, and the time (wall, CPU) that remembering has saved."""

    def __init__(self, inner: PolicyEvaluator) -> None:
        self._inner = inner
        self._seconds: dict[tuple[int, ...], Clocks] = {}
        self.saved = Clocks(0.0, 0.0)

    def evaluate(self, policy: Policy, to_beat: float | None = None) -> Score:
        """As the inner evaluator's."""
        started = now()
        score = self._inner.evaluate(policy, to_beat)
        taken = now().since(started)
        before = self._seconds.get(policy.kept, Clocks(0.0, 0.0))
        if before.wall_s > taken.wall_s:
            self.saved = self.saved.plus(before.since(taken))
        else:
            self._seconds[policy.kept] = taken
        return score


@dataclass(frozen=True)
class Clocks:
    """Wall seconds, and CPU-seconds of all threads, which other work on the machine hardly changes."""

    wall_s: float
    cpu_s: float

    def since(self, earlier: Clocks) -> Clocks:
        """The difference."""
        return Clocks(self.wall_s - earlier.wall_s, self.cpu_s - earlier.cpu_s)

    def plus(self, other: Clocks) -> Clocks:
        """The sum."""
        return Clocks(self.wall_s + other.wall_s, self.cpu_s + other.cpu_s)


def now() -> Clocks:
    """Both clocks of this process."""
    return Clocks(time.perf_counter(), time.process_time())


class Laboratory:
    """One network under one budget, made ready: exported, profiled if latency counts, calibrated."""

    def __init__(self, setting: Setting, data: Path, work: Path, shared: dict[str, Shared]) -> None:
        config = configuration.load(HERE.parent / "configs" / setting.config)
        config = override(config, {**setting.changes, f"budget.{setting.metric}": setting.budget})
        config = override(with_data_folder(config, data), {"out": work / setting.network})
        config = override(config, {"search.sensitivity_points": 2, "search.random_policies": 4, "profile.force": True})
        self.setting = setting
        self.config: RunConfig = config
        stages = (
            ("train", "graph", "profile", "calibrate")
            if setting.metric == "latency"
            else ("train", "graph", "calibrate")
        )
        Pipeline(open_run(config, update=True), config).run(stages)
        self.session = Session(RunFolder(config.out), config)
        if setting.network not in shared:  # the same images and calibration under every budget
            runs = self.session.evaluator("search")
            shared[setting.network] = Shared(PrunedEvaluator(self.session.pruner, runs, config.search.reward))
        self.evaluator = shared[setting.network]
        self.folder = config.out / f"{setting.metric}-{setting.budget}"
        self._test = self.session.evaluator("test")
        self._tested: dict[tuple[int, ...], float] = {}

    def row(self, agent: str, seed: int) -> Row:
        """Runs one agent, and says what it found."""
        changes = {"agent": agent, **SCHEDULES.get(agent, USUAL)}
        config = search_settings(self.config).model_copy(update=changes)
        folder = RunFolder(self.folder / f"{agent}-{seed}").create()
        started, saved = now(), self.evaluator.saved
        result = search(
            self.session.traced.network,
            tables(self.session),
            self.evaluator,
            config,
            budgets(self.session),
            seed,
            folder,
            context={"model": self.session.model_sha256},
            progress=_progress(f"{self.setting.network} {self.setting.metric} {self.setting.budget} {agent} {seed}"),
        )
        taken = now().since(started).plus(self.evaluator.saved.since(saved))
        return self._row(agent, seed, result.best, result.evaluations, taken)

    def _row(self, agent: str, seed: int, best: Trial, evaluations: int, taken: Clocks) -> Row:
        setting = self.setting
        if best.kept not in self._tested:
            self._tested[best.kept] = self._test.score(self.session.pruner.prune(Policy(best.kept))).top1
        limit = budgets(self.session)[0]
        spent = getattr(best.cost, limit.metric) / limit.limit
        return Row(
            setting.network,
            setting.metric,
            setting.budget,
            agent,
            seed,
            best.reward,
            best.score.top1,
            self._tested[best.kept],
            evaluations,
            round(taken.wall_s, 1),
            round(taken.cpu_s, 1),
            f"{best.agent}, {best.phase}",
            round(spent, 4),
        )


def _row(laboratory: Laboratory, agent: str, seed: int) -> Row:
    """The agent's row; of a benchmark that was interrupted, the one that it has written down."""
    path = laboratory.folder / f"{agent}-{seed}.row.json"
    if path.exists():
        return Row(**json.loads(path.read_text()))
    row = laboratory.row(agent, seed)
    write_json(path, row)
    return row


def _progress(what: str) -> Any:
    last = [time.monotonic()]

    def progress(done: int, total: int, detail: str) -> None:
        if time.monotonic() - last[0] > 20:
            last[0] = time.monotonic()
            print(f"{what}: {done}/{total} {detail}", file=sys.stderr, flush=True)

    return progress


def summary(rows: list[Row]) -> dict[str, Any]:
    """Mean and standard deviation over seeds, and the questions that the table answers."""
    cells: defaultdict[tuple[str, str, float, str], list[Row]] = defaultdict(list)
    for row in rows:
        cells[row.network, row.metric, row.budget, row.agent].append(row)
    table = [
        {
            "network": network,
            "metric": metric,
            "budget": budget,
            "agent": agent,
            **{
                name: [round(statistics.mean(values), 4), round(statistics.pstdev(values), 4)]
                for name in ("reward", "search_accuracy", "test_accuracy", "evaluations", "seconds", "cpu_seconds")
                for values in [[getattr(row, name) for row in found]]
            },
        }
        for (network, metric, budget, agent), found in cells.items()
    ]
    return {"table": table, "answers": _answers(table)}


def _answers(table: list[dict[str, Any]]) -> list[dict[str, Any]]:
    answers = []
    for setting in SETTINGS:
        found = {
            row["agent"]: row
            for row in table
            if (row["network"], row["metric"], row["budget"]) == (setting.network, setting.metric, setting.budget)
        }
        if "auto" not in found:
            continue
        others = {agent: row["reward"][0] for agent, row in found.items() if agent not in ("auto", PUBLISHED)}
        best = max(others, key=lambda agent: others[agent]) if others else None
        answer: dict[str, Any] = {
            "network": setting.network,
            "metric": setting.metric,
            "budget": setting.budget,
            "auto_reward": found["auto"]["reward"][0],
            "best_opponent": best,
            "best_opponent_reward": others.get(best) if best else None,
            "auto_at_least_equals_every_opponent": all(
                found["auto"]["reward"][0] >= value for value in others.values()
            ),
        }
        if "ddpg-warm" in found and PUBLISHED in found:
            answer["warm_reward"] = found["ddpg-warm"]["reward"][0]
            answer["published_400_episodes_reward"] = found[PUBLISHED]["reward"][0]
        if setting.network == "mobilenet_v2" and setting.metric == "macs":
            answer["yardstick_top1"] = YARDSTICK[setting.budget]
            answer["auto_test_top1"] = found["auto"]["test_accuracy"][0]
        answers.append(answer)
    return answers


def show(found: dict[str, Any]) -> None:
    """Prints the table on stdout."""
    print(
        f"{'network':<13} {'budget':<12} {'agent':<12} {'reward':>16} {'search top-1':>14} {'test top-1':>14} "
        f"{'evals':>6} {'s':>6}"
    )
    for row in found["table"]:
        cells = [f"{row[name][0]:.3f} ± {row[name][1]:.3f}" for name in ("reward", "search_accuracy", "test_accuracy")]
        budget = f"{row['budget']:.0%} {row['metric']}"
        print(
            f"{row['network']:<13} {budget:<12} {row['agent']:<12} {cells[0]:>16} {cells[1]:>14} {cells[2]:>14} "
            f"{row['evaluations'][0]:>6.0f} {row['seconds'][0]:>6.0f}"
        )
    for answer in found["answers"]:
        print(json.dumps(answer))


def main() -> None:
    """Runs what is asked for, and writes the raw result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with weights and images")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--only", help="mobilenet_v2 or mobilenet_v2:macs:0.7, comma-separated (default: all)")
    parser.add_argument("--agents", default=",".join(AGENTS), help="comma-separated (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path("runs/search_quality"))
    parser.add_argument("--raw", type=Path, default=HERE / "raw" / "search_quality.json")
    options = parser.parse_args()
    rows: list[Row] = []
    shared: dict[str, Shared] = {}
    for setting in SETTINGS:
        names = {setting.network, f"{setting.network}:{setting.metric}:{setting.budget}"}
        if options.only and not names & set(options.only.split(",")):
            continue
        laboratory = Laboratory(setting, options.data.resolve(), options.work, shared)
        for agent in options.agents.split(","):
            for seed in range(min(options.seeds, setting.published) if agent == PUBLISHED else options.seeds):
                rows.append(_row(laboratory, agent, seed))
                print(json.dumps(asdict(rows[-1])), file=sys.stderr, flush=True)
        write_json(options.raw, {"command": _command(options), "rows": [asdict(row) for row in rows], **summary(rows)})
    found = {"rows": [asdict(row) for row in rows], **summary(rows)}
    if options.json:
        print(json.dumps(found))
    else:
        show(found)


def _command(options: argparse.Namespace) -> str:
    return f"python benchmarks/search_quality.py --data FOLDER --seeds {options.seeds} --agents {options.agents}"


if __name__ == "__main__":
    main()

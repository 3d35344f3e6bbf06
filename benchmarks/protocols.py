"""What else AMC searches for, on ResNet-56 and CIFAR-10: the smallest network without a loss, and the most zeros.

    python benchmarks/protocols.py --data DIR [--only guaranteed,sparse] [--max-loss 0.04] [--densities .3,.2]

"guaranteed": the accuracy-guaranteed protocol, the fewest parameters whose network loses at most --max-loss on the
search images before any fine-tuning; what counts is the loss after fine-tuning (paper: 60 % of ResNet-50's parameters
on CIFAR-10 without loss). "sparse": fine-grained pruning at several densities, the share of the weights that stay.
Each is a whole `amc run` without a device, with its fine-tuning. Losses are the original's top-1 less the network's, on
the same test images, with 95 % intervals.

Everything lies in --work and is resumed from there, also the rows that other processes have finished; the raw result is
benchmarks/raw/protocols.json. Rows of it that are not asked for stay there: each names its own commit.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from answers import difference, right
from beside import beside
from provenance import machine, provenance

from amc_mobile import config as configuration
from amc_mobile.cli.pipeline import Pipeline, open_run
from amc_mobile.cli.session import Session, read_onnx
from amc_mobile.cli.settings import override, with_data_folder
from amc_mobile.cost.price import price
from amc_mobile.runs import read_json, write_json

HERE = Path(__file__).parent
CONFIG = HERE.parent / "configs" / "resnet56_cifar10.toml"
STAGES = ("train", "graph", "calibrate", "search", "prune", "finetune", "export", "evaluate")


@dataclass(frozen=True)
class Row:
    """One run. `params_share` counts what is not zero."""

    what: str
    asked: float  # loss allowed before fine-tuning, or density
    seed: int
    epochs: int
    params_share: float
    macs_share: float
    original: float
    before: float
    after: float
    loss: tuple[float, float, float]  # after fine-tuning
    agent: str
    evaluations: int
    test_images: int
    machine: str
    commit: str
    uniform: float | None = None  # before fine-tuning: all layers at one ratio, on the same budget, repaired alike
    note: str = ""


def wanted(arguments: argparse.Namespace) -> Iterator[tuple[str, float, dict[str, object]]]:
    """What is run: its name, what is asked of it, and its settings."""
    only = arguments.only.split(",")
    if "guaranteed" in only:
        for loss in map(float, arguments.max_loss.split(",")):
            limit = {"search.protocol": "accuracy", "search.max_loss": loss, "budget.params": 1.0}
            yield "guaranteed", loss, {**limit, "finetune.epochs": arguments.epochs}
    if "sparse" in only:
        for density in map(float, arguments.densities.split(",")):
            least = min(0.2, density / 4)  # of any layer, or small densities cannot be reached
            limit = {"search.granularity": "weight", "budget.params": density, "search.min_keep_ratio": least}
            yield "sparse", density, {**limit, "finetune.epochs": arguments.epochs}


def done(what: str, asked: float, changes: dict[str, object], arguments: argparse.Namespace) -> Row:
    """Runs what is not done yet, and says what came of it; of a run that has its row, the one written down."""
    name = f"{what}-{asked:g}-{arguments.seed}"
    path = arguments.work / f"{name}-{arguments.epochs}.row.json"
    if path.is_file():
        return Row(**read_json(path))
    config = override(
        with_data_folder(configuration.load(CONFIG), arguments.data.resolve()),
        {**changes, "out": arguments.work / name, "seed": arguments.seed},
    )
    folder = open_run(config, update=True)
    Pipeline(folder, config).run(STAGES)
    session, search, accuracy = Session(folder, config), read_json(folder.search), read_json(folder.accuracy)
    original, after = right(session, session.original_onnx, read_onnx(folder.model_onnx))
    best = search["best"]
    whole = price(session.network, session.network.full())
    row = Row(
        what,
        asked,
        arguments.seed,
        config.finetune.epochs,
        best["cost"]["params"] / whole.params,
        best["cost"]["macs"] / whole.macs,
        float(original.mean()),
        accuracy["pruned"]["top1"],
        float(after.mean()),
        difference(original, after),
        best["agent"],
        search["evaluations"],
        len(original),
        machine(),
        provenance()["commit"],
        (accuracy.get("uniform") or {}).get("top1"),
    )
    write_json(path, row)
    return row


def _question(row: Row) -> tuple[str, float, int, int]:
    return row.what, -row.asked, row.seed, row.epochs


def in_words(rows: list[Row]) -> str:
    """The rows for people."""
    lines = []
    for each in rows:
        loss = "{:+.2%} ({:+.2%} to {:+.2%})".format(*each.loss)
        uniform = "" if each.uniform is None else f" (uniform {each.uniform:.2%})"
        lines.append(
            f"{each.what} {each.asked:g}: parameters {each.params_share:.1%} (1/{1 / each.params_share:.2f}), MACs "
            f"{each.macs_share:.1%}, top-1 {each.original:.2%}, pruned {each.before:.2%}{uniform}, "
            f"fine-tuned {each.after:.2%}, loss {loss}"
        )
    return "\n".join(lines)


def main() -> None:
    """Does what is not done yet, and writes the raw result after every row."""
    arguments = _arguments()
    rows: list[Row] = []
    found: dict[str, Any] = {}
    for what, asked, changes in wanted(arguments):
        rows.append(done(what, asked, changes, arguments))
        found = {**provenance(), "rows": [asdict(each) for each in beside(rows, arguments.raw, "rows", Row, _question)]}
        write_json(arguments.raw, found)
    print(json.dumps(found) if arguments.json else in_words(rows))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with weights and images")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--only", default="guaranteed,sparse", help="default: %(default)s")
    parser.add_argument("--max-loss", default="0.04", help="default: %(default)s")
    parser.add_argument("--densities", default=".3,.2,.15", help="default: %(default)s")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("runs/protocols"))
    parser.add_argument("--raw", type=Path, default=HERE / "raw" / "protocols.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""Accuracy under a latency budget, without fine-tuning: MobileNets on ImageNet images, from all to 40 % of the time.

    python benchmarks/latency_curve.py --data DIR [--networks mobilenet_v2,mobilenet_v1] [--shares 1,.9,.8,.7,.6,.5,.4]

Each point is a whole `amc run` of configs/NETWORK_imagenet.toml at another budget, on one latency table for each
network, which is measured first (or given: --table mobilenet_v2=FILE). "Uniform" prunes every group by one ratio on the
same budget, with the same repair. Both are judged on the same test images, so that their difference is more certain
than either. The clock's word is of the run's own comparison: original and pruned network, interleaved.

Everything lies in --work and is resumed from there. --only-search does the part that needs no quiet machine, if the
tables are given. The raw result is benchmarks/raw/latency_curve.json; points of it that are not asked for stay there,
and each names its own commit.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from answers import difference, interval, right
from beside import beside
from provenance import machine, provenance

from amc_mobile import config as configuration
from amc_mobile.cli.pipeline import Pipeline, open_run
from amc_mobile.cli.session import Session, read_onnx
from amc_mobile.cli.settings import override, with_data_folder
from amc_mobile.cli.settling import first_table
from amc_mobile.config import RunConfig
from amc_mobile.runs import read_json, write_json
from amc_mobile.types import Policy

HERE = Path(__file__).parent
SEARCH = ("train", "graph", "profile", "calibrate", "search", "refine")


@dataclass(frozen=True)
class Point:
    """One budget. Intervals are 95 %; `ahead` is AMC's top-1 less the uniform network's, on the same images."""

    network: str
    share: float
    original: float
    amc: float
    amc_interval: tuple[float, float]
    uniform: float
    uniform_interval: tuple[float, float]
    ahead: tuple[float, float, float]
    macs_share: float
    latency_before_us: float
    latency_after_us: float
    speedup: float
    speedup_interval: tuple[float, float]
    off: float  # measured / budget - 1
    predicted_off: float | None  # predicted / measured - 1
    evaluations: int
    search_s: float
    agent: str
    test_images: int
    machine: str
    commit: str
    note: str = ""


def settings(network: str, share: float, table: Path | None, arguments: argparse.Namespace) -> RunConfig:
    """The published configuration at another budget."""
    config = configuration.load(HERE.parent / "configs" / f"{network}_imagenet.toml")
    out = arguments.work / f"{network}-{share:g}"
    changes = {"out": out, "budget.latency": share, "profile.table": table, "int8.enabled": False}
    return override(with_data_folder(config, arguments.data.resolve()), changes)


def judged(network: str, share: float, session: Session, note: str) -> Point:
    """What came of a finished run, written down beside it when it is judged first."""
    folder = session.folder
    path = folder.root.parent / f"{folder.root.name}.point.json"
    if path.is_file():
        return Point(**read_json(path))
    search, timed, accuracy = (read_json(path) for path in (folder.search, folder.comparison, folder.accuracy))
    uniform = next(trial for trial in search["opponents"] if trial["agent"] == "uniform")
    ours, theirs = right(session, read_onnx(folder.model_onnx), session.final(Policy(tuple(uniform["kept"]))))
    summary = read_json(folder.summary)
    point = Point(
        network,
        share,
        accuracy["original"]["top1"],
        float(ours.mean()),
        interval(ours),
        float(theirs.mean()),
        interval(theirs),
        difference(ours, theirs),
        summary["macs_after"] / summary["macs_before"],
        timed["latency_before_us"],
        timed["latency_after_us"],
        timed["speedup"],
        tuple(timed["speedup_ci"]),
        timed["latency_after_us"] / (share * timed["latency_before_us"]) - 1.0,
        timed["prediction_error"],
        search["evaluations"],
        read_json(folder.stages)["stages"]["search"]["seconds"],
        search["best"]["agent"],
        len(ours),
        machine(),
        provenance()["commit"],
        note,
    )
    write_json(path, point)
    return point


def _question(point: Point) -> tuple[str, float]:
    return point.network, -point.share


def in_words(points: list[Point]) -> str:
    """The points for people."""
    lines = [
        f"{'network':<13} {'budget':>6} {'AMC':>6} {'uniform':>8} {'ahead (95 %)':>24} {'ms':>7} {'off':>6} {'x':>5}"
    ]
    for each in points:
        ahead = "{:+.1%} ({:+.1%} to {:+.1%})".format(*each.ahead)
        lines.append(
            f"{each.network:<13} {each.share:>6.0%} {each.amc:>6.1%} {each.uniform:>8.1%} {ahead:>24} "
            f"{each.latency_after_us / 1000:>7.3f} {each.off:>+6.1%} {each.speedup:>5.2f}"
        )
    return "\n".join(lines)


def main() -> None:
    """Does what is not done yet, and writes the raw result after every point."""
    arguments = _arguments()
    given = dict(item.split("=", 1) for item in arguments.table)
    points: list[Point] = []
    found: dict[str, Any] = {}
    for network in arguments.networks.split(","):
        table = Path(given[network]) if network in given else None
        for share in map(float, arguments.shares.split(",")):
            config = settings(network, share, table, arguments)
            folder = open_run(config, update=True)
            Pipeline(folder, config).run(SEARCH if arguments.only_search else None)
            table = table or first_table(folder)
            if arguments.only_search:
                continue
            points.append(judged(network, share, Session(folder, config), arguments.note))
            found = {
                **provenance(),
                "points": [asdict(each) for each in beside(points, arguments.raw, "points", Point, _question)],
            }
            write_json(arguments.raw, found)
    print(json.dumps(found) if arguments.json else in_words(points))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with weights and images")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--networks", default="mobilenet_v2,mobilenet_v1", help="default: %(default)s")
    parser.add_argument(
        "--shares", default="1,.9,.8,.7,.6,.5,.4", help="of the original's latency; default: %(default)s"
    )
    parser.add_argument(
        "--table", action="append", default=[], metavar="NETWORK=FILE", help="a latency table of this machine"
    )
    parser.add_argument("--note", default="", help="what is to be known of the points judged now")
    parser.add_argument("--only-search", action="store_true", help="time and judge nothing")
    parser.add_argument("--work", type=Path, default=Path("runs/latency_curve"))
    parser.add_argument("--raw", type=Path, default=HERE / "raw" / "latency_curve.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()

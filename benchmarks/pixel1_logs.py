"""A real phone: both AMC networks' time on a Pixel 1, predicted from the logs of two plain MobileNet-V1 only.

    python benchmarks/pixel1_logs.py --data FOLDER [--json] [--write-table]

The logs are public (mit-han-lab/amc-models, MIT): TFLite's own per-op times of MobileNet-V1 1.0, 0.75, AMC 50 % FLOPs
and AMC 50 % time, one thread, 100 warm-ups and 200 runs, three runs of each, in FOLDER/latency/pixel1_tflite_ops.csv.
Every time is the median over the three runs. The AMC networks end in logits, as the project's own network does; what
SOFTMAX took is subtracted from the other two.

The project's fitting code sees 1.0 and 0.75 and predicts the AMC networks at their published widths. Beside it stands
the baseline of LATENCY.md: each op of 1.0 scaled by its MACs. `from_one` says what each of the two predicts of the
other, the only check that these two alone allow; `left_out` fits three of the four networks and predicts the fourth.
--write-table fits all four and writes the table that lets anyone search MobileNet-V1 for this phone without a phone.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from amc_mobile.cli.tables import table_path
from amc_mobile.cost.formulas import layer_macs
from amc_mobile.cost.table import LatencyTable
from amc_mobile.export.to_onnx import export
from amc_mobile.graph.trace import trace
from amc_mobile.measurements import Conditions, DeviceInfo, TimingProtocol
from amc_mobile.models.zoo import find
from amc_mobile.profile.campaign import SENTINEL, Chunk, Plan, Sample, summarise
from amc_mobile.profile.campaign_log import chunk_as_plain
from amc_mobile.profile.fit import Fitter, Observations, errors_of, validate
from amc_mobile.profile.identity import structure_sha256
from amc_mobile.profile.mapping import RowKey
from amc_mobile.profile.observed import observe
from amc_mobile.profile.profiler import fitted
from amc_mobile.runs import plain, write_json
from amc_mobile.types import NetworkGraph, Policy

HERE = Path(__file__).parent
MODEL = "mobilenet_v1"
SOURCE = "public logs of mit-han-lab/amc-models (MIT)"
RUNS = (1, 2, 3)
FULL_WIDTHS = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
WIDTHS: Mapping[str, Sequence[int]] = {  # as in models/mobilenet_v1.py of the repository that the logs are from
    "mobilenet": FULL_WIDTHS,
    "0.75mobilenet": tuple(width * 3 // 4 for width in FULL_WIDTHS),
    "0.5flops": (24, 48, 96, 80, 192, 200, 328, 352, 368, 360, 328, 400, 736, 752),
    "0.5time": (16, 48, 88, 80, 192, 168, 336, 360, 360, 352, 352, 368, 768, 680),
}
LABELS = {name: SENTINEL if name == "mobilenet" else name for name in WIDTHS}
SEEN = ("mobilenet", "0.75mobilenet")  # all that the predictions are fitted to
PHONE = DeviceInfo(
    name="pixel-1",
    model="Pixel 1",
    os="Android",
    runtime="tflite",
    provider="CPUExecutionProvider",
    precision="fp32",
    threads=1,
    optimisation="tflite",
    details={"layout": "NHWC", "clock": "wall time, mean of 200 runs", "cores": "unknown", "pinned": "unknown"},
)


@dataclass(frozen=True, slots=True)
class Log:
    """One run of one network, µs: what it took from end to end, softmax and all, and the ops in their order."""

    network: str
    run: int
    end_to_end_us: float
    deviation_us: float
    ops: tuple[tuple[str, float], ...]

    @property
    def softmax_us(self) -> float:
        """What the network's last op took, if it is one that the project's network does not have."""
        return sum(time for op, time in self.ops if op == "SOFTMAX")


def main() -> None:
    """Fits, predicts, writes the raw figures and prints what they say."""
    arguments = _arguments()
    entry = find(MODEL)
    model = export(entry.build().eval(), entry.input_shape)
    network = trace(model, entry.name).network
    logs = read(arguments.data / "latency" / "pixel1_tflite_ops.csv")
    evidence = evidence_of(network, logs)
    seen, noise_floor = observe(evidence)
    seen = replace(seen, fixed=0)  # each of the four is left out in its turn, the full network too
    found = results(network, seen) | {"noise_floor": noise_floor, "validation": validate(network, seen, noise_floor)}
    if arguments.write_table:
        table = replace(fitted(network, PHONE, structure_sha256(model), evidence), validation=found["validation"])
        found |= _written(table, network, seen)
    raw = {**found, "widths": WIDTHS, "depthwise_us_per_channel": per_channel(network, seen)}
    write_json(arguments.out, {**raw, "logs": [asdict(log) for log in logs]})
    print(json.dumps(plain(found)) if arguments.json else _in_words(found))


def read(path: Path) -> list[Log]:
    """All runs of all networks."""
    frame = pd.read_csv(path).sort_values(["network", "run", "index"])
    logs = []
    for name in WIDTHS:
        for run in RUNS:
            part = frame[(frame["network"] == name) & (frame["run"] == run)]
            ops = tuple(zip(part["op"].tolist(), part["avg_us"].astype(float).tolist(), strict=True))
            whole, deviation = (float(part[f"end_to_end_{kind}_us"].iloc[0]) for kind in ("avg", "std"))
            logs.append(Log(name, run, whole, deviation, ops))
    return logs


def evidence_of(network: NetworkGraph, logs: Sequence[Log]) -> dict[str, Any]:
    """The logs as the project's own campaigns are kept: one round for each run, one time for each row and network."""
    policies = {LABELS[name]: Policy((3, *widths, 1000)) for name, widths in WIDTHS.items()}
    plan = Plan(policies, len(RUNS), 0)
    chunks = [_chunk(network, [log for log in logs if log.run == run]) for run in RUNS]
    summary = summarise(plan, chunks)
    protocol = TimingProtocol(rounds=1, warmups=100, runs=200, min_time_s=0.0, profile_warmups=0, profile_runs=300)
    evidence = {
        "source": SOURCE,
        "tool": f"TFLite benchmark_tflite_model; fitted by amc-mobile {metadata.version('amc-mobile')}",
        "seed": plan.seed,
        "protocol": protocol,
        "statistic": "each run is the mean of 200 inferences after 100 warm-ups, op times are means over all 300 of "
        "them; each time used is the median over three runs. SOFTMAX, which the AMC networks lack, is subtracted",
        "validated": "each of the four networks predicted from the other three; the full one lies beyond them",
        "extrapolated": "no layer was measured below half of its width: prices there follow the laws alone",
        "widths_from": "models/mobilenet_v1.py of mit-han-lab/amc-models",
        "method": "nodes",
        "rounds_wanted": plan.rounds,
        "steadiness": [
            {"round": place, "chunk": 0, **asdict(state), "used": place in summary.used}
            for place, state in enumerate(summary.states)
        ],
        "drift_corrected": summary.corrected,
        "networks": {label: policy.kept for label, policy in policies.items()},
        "measured_us": summary.clock_us,
        "logs": [asdict(log) for log in logs],
        "min_keep_ratio": 0.2,
        "round_to": 8,
        "chunks": [chunk_as_plain(chunk) for chunk in chunks],
    }
    found: dict[str, Any] = plain(evidence)
    return found


def _chunk(network: NetworkGraph, logs: Sequence[Log]) -> Chunk:
    samples = tuple(
        Sample(LABELS[log.network], ((log.end_to_end_us - log.softmax_us,),), ((),), _rows(network, log))
        for log in logs
    )
    return Chunk(logs[0].run - 1, 0, Conditions(time_utc=""), samples)


def _rows(network: NetworkGraph, log: Log) -> dict[RowKey, float]:
    """The table's rows: TFLite's ops come in the order of the network's layers."""
    layers = iter(network.layers)
    rows, layer = {}, ""
    for op, time in log.ops:
        if op in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            layer = next(layers).name
            rows[RowKey(layer, "")] = time
        elif op != "SOFTMAX":  # SQUEEZE in two of the networks is RESHAPE in the others
            rows[RowKey(layer, "AveragePool" if op == "AVERAGE_POOL_2D" else "Reshape")] = time
    assert next(layers, None) is None
    return rows


def results(network: NetworkGraph, seen: Observations) -> dict[str, Any]:
    """Measured and predicted times of the four networks, from two of them; and what each of these says of the other."""
    fitter, names = Fitter(network, seen), list(WIDTHS)
    known = [names.index(name) for name in SEEN]
    predicted = fitter.predict(fitter.fit(known), range(len(names)))
    scaled = macs_scaled(network, seen)
    rows = [
        {
            "network": name,
            "seen": name in SEEN,
            "measured_us": float(seen.clock_us[place]),
            "predicted_us": float(predicted[place]),
            "error": float(predicted[place] / seen.clock_us[place] - 1.0),
            "macs_scaling_error": float(scaled[place] / seen.clock_us[place] - 1.0),
        }
        for place, name in enumerate(names)
    ]
    from_one = {}
    for place, other in zip(known, reversed(known), strict=True):
        time = fitter.predict(fitter.fit([other]), [place])[0]
        from_one[names[place]] = float(time / seen.clock_us[place] - 1.0)
    return {"fitted_to": SEEN, "networks": rows, "from_one": from_one}


def macs_scaled(network: NetworkGraph, seen: Observations) -> np.ndarray[Any, Any]:
    """The baseline: every row of the full network scaled by its layer's MACs, the pool's by its channels."""
    layers = {layer.name: layer for layer in network.layers}
    full = seen.policies[0].kept
    sums = np.zeros(len(seen.policies))
    for key, times in seen.rows_us.items():
        layer = layers[key.layer]
        if key.node:
            shares = [layer.widths(policy.kept)[1] / layer.out_channels for policy in seen.policies]
        else:
            shares = [layer_macs(layer, policy.kept) / layer_macs(layer, full) for policy in seen.policies]
        sums += times[0] * np.array(shares)
    scaled: np.ndarray[Any, Any] = sums * (seen.clock_us[0] / sums[0])
    return scaled


def per_channel(network: NetworkGraph, seen: Observations) -> dict[str, dict[str, float]]:
    """Depthwise time per channel relative to the full network's: near 1 only if the widths are those of the logs."""
    found: dict[str, dict[str, float]] = {name: {} for name in WIDTHS}
    for layer in network.layers:
        if layer.kind == "depthwise":
            times = seen.rows_us[RowKey(layer.name, "")]
            each = [
                time / layer.widths(policy.kept)[1] for time, policy in zip(times.tolist(), seen.policies, strict=True)
            ]
            for name, value in zip(WIDTHS, each, strict=True):
                found[name][layer.name] = round(value / each[0], 3)
    return found


def _written(table: LatencyTable, network: NetworkGraph, seen: Observations) -> dict[str, Any]:
    """Saves the table; answers where, and how far its prices are from the clock on the networks it was made from."""
    path = HERE.parent / table_path(table.device, MODEL, None)
    path.parent.mkdir(parents=True, exist_ok=True)
    table.save(path)
    prices = [table.latency_us(network, policy.kept) for policy in seen.policies]
    return {
        "table": str(path.relative_to(HERE.parent)),
        "price_errors": dict(zip(WIDTHS, (np.array(prices) / seen.clock_us - 1.0).tolist(), strict=True)),
    }


def _in_words(found: Mapping[str, Any]) -> str:
    lines = [f"{'network':14} {'measured':>9} {'predicted':>10} {'error':>7} {'by MACs':>8}"]
    lines += [
        f"{row['network']:14} {row['measured_us'] / 1e3:6.2f} ms {row['predicted_us'] / 1e3:7.2f} ms "
        f"{row['error']:+7.1%} {row['macs_scaling_error']:+8.1%}{'  fitted' if row['seen'] else ''}"
        for row in found["networks"]
    ]
    own, left = found["validation"], errors_of(found["validation"].points)
    lines += [
        "from one network alone: " + ", ".join(f"{name} {error:+.1%}" for name, error in found["from_one"].items()),
        "from the other three: " + ", ".join(f"{name} {error:+.1%}" for name, error in zip(WIDTHS, left, strict=True)),
        f"mean {statistics.fmean(np.abs(left)):.1%}; a line through the MACs: {own.macs_affine_mape:.1%}; "
        f"the clock's own noise: {own.noise_floor:.1%}",
    ]
    return "\n".join([*lines, *([f"table: {found['table']}"] if "table" in found else [])])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with latency/pixel1_tflite_ops.csv")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write-table", action="store_true", help="also fit all four and write latency_tables/pixel-1")
    parser.add_argument("--out", type=Path, default=HERE / "raw" / "pixel1_logs.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""What devices measure, and what was learnt from it: times of networks, nodes and layers, and their conditions.

Raw values are kept; statistics are computed on read. Times are float microseconds (`_us`).
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

DEVICE_KEY = ("model", "runtime", "provider", "precision", "threads", "optimisation", "batch")


def lower_quartile(times: Sequence[float]) -> float:
    """The time below which a quarter of them is, between two of them where it has to be."""
    return float(np.quantile(times, 0.25))


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """What makes measurements comparable: two tables belong to one device exactly if `key()` is equal."""

    name: str  # alias under which the user opens it: "host", "pixel"
    model: str  # CPU or phone model
    os: str
    runtime: str  # "onnxruntime 1.32.0"
    provider: str  # execution provider: "CPUExecutionProvider"
    precision: str  # "fp32"
    threads: int
    optimisation: str  # ONNX Runtime graph optimisation level: "all", "extended", ...
    details: Mapping[str, str] = field(default_factory=dict)
    emulated: bool = False
    batch: int = 1  # images that run at once
    node_times: bool = True  # whether it gives the time of every node inside a network

    def key(self) -> str:
        """The identity that a latency table is bound to."""
        return "|".join(str(getattr(self, name)) for name in DEVICE_KEY)

    @property
    def cores(self) -> str:
        """The cores that it measures on, as "4,5,6,7"; empty where nobody tells."""
        return self.details.get("cores", "")

    def shares_cores(self, other: DeviceInfo) -> bool:
        """Whether both may measure on one core: False for the small and the large cores of one phone, chosen by hand.

        Where neither is bound to its cores, the system moves both about.
        """
        bound = "yes" in (self.details.get("pinned"), other.details.get("pinned"))
        mine, theirs = (set(info.cores.split(",")) for info in (self, other))
        return not (bound and self.cores and other.cores) or bool(mine & theirs)


@dataclass(frozen=True, slots=True)
class Conditions:
    """The state of the device around a measurement. What the device does not tell is None."""

    time_utc: str
    load: float | None = None  # other processes' share of the cores, 0..cores
    clock_khz: tuple[int, ...] = ()
    governor: str | None = None
    temperature_celsius: float | None = None
    battery_percent: float | None = None


@dataclass(frozen=True, slots=True)
class TimingJob:
    """One model to be timed. Several jobs are interleaved by the device in the given number of rounds."""

    label: str
    model: bytes  # serialised ONNX
    profile: bool = False  # also record per-node times, in a session of its own


@dataclass(frozen=True, slots=True)
class TimingProtocol:
    """How a device measures each job in each round. End-to-end and per-node times never share a session.

    At least `runs` runs and at least `min_time_s`; a network that is too slow for so many in four times that time gets
    as many as it can have, of all rounds together 15 at least, of each round three.
    """

    rounds: int = 3
    warmups: int = 10
    runs: int = 50
    min_time_s: float = 1.0
    profile_warmups: int = 5
    profile_runs: int = 30
    profile_rounds: int | None = None  # in which nodes are timed, the first of all; none: in all
    seed: int = 0
    cold: bool = False  # caches are emptied before every run: a layer alone would find its weights in them


@dataclass(frozen=True, slots=True)
class Start:
    """How one session began: what a user waits for before the first answer, and the memory that it took."""

    load_us: float  # creating the session, graph optimisation included; wall clock
    first_run_us: float  # the first run in it; wall clock
    peak_bytes: int | None = None  # most memory that the process held at a time; None where it cannot be told


@dataclass(frozen=True, slots=True)
class Measurement:
    """Raw end-to-end times of one model, round by round; statistics are computed on read.

    `values_us[r]` are the timed runs of round r, `warmups_us[r]` the discarded ones before them. `nodes` are
    the per-node times of the profiling sessions, empty if none were asked for. `starts[r]` and `states[r]`, where the
    device tells them, say how the session of round r began and how the device felt at the end of it.
    """

    label: str
    values_us: tuple[tuple[float, ...], ...]
    warmups_us: tuple[tuple[float, ...], ...]
    nodes: tuple[NodeTime, ...]
    conditions: Conditions
    starts: tuple[Start, ...] = ()
    states: tuple[Conditions, ...] = ()

    def round_medians_us(self) -> tuple[float, ...]:
        """Median time of each round, µs."""
        return tuple(statistics.median(values) for values in self.values_us)

    def latency_us(self) -> float:
        """The lower quartile of the rounds' medians, µs: what disturbs a network only slows it down."""
        return lower_quartile(self.round_medians_us())


@dataclass(frozen=True, slots=True)
class NodeTime:
    """Time of one node of the runtime's optimised graph, from its own profiler, in µs.

    `round_us` are the medians of the rounds in which nodes were timed.
    """

    name: str
    op_type: str
    outputs: tuple[str, ...]
    round_us: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class LayerTime:
    """What one layer takes inside the network, by the runtime's own profiler: medians over the rounds, µs.

    `layer` is empty for all that belongs to no layer. `after_us` is None where the pruned network has no such layer, or
    where the runtime's graph does not tell.
    """

    layer: str
    before_us: float | None
    after_us: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Original against pruned on one device, interleaved. Speedup is original / pruned; the interval is 95 %.

    `original_int8` and `int8` are original and pruned network, quantised; none where both are in int8 anyway, as
    `device` then says. What could not be timed says why in `failed`, by label. `layers` come from the profiler's
    sessions: they need not add up to the latency.
    """

    device: DeviceInfo
    original: Measurement
    pruned: Measurement
    latency_before_us: float
    latency_after_us: float
    speedup: float
    speedup_ci: tuple[float, float]
    predicted_us: float | None  # on the clock of this measurement: the table's prediction times `drift`
    prediction_error: float | None  # predicted / measured - 1
    drift: float | None = None  # the original's time now / when the table was measured
    int8: Measurement | None = None
    latency_int8_us: float | None = None
    speedup_int8: float | None = None  # original / int8
    speedup_int8_ci: tuple[float, float] | None = None
    failed: Mapping[str, str] = field(default_factory=dict)
    bytes: Mapping[str, int] = field(default_factory=dict)  # of the ONNX files as they were sent, by label
    layers: tuple[LayerTime, ...] = ()
    model_sha256: str = ""  # of the run's model.onnx, the network that was timed
    original_int8: Measurement | None = None
    latency_original_int8_us: float | None = None
    speedup_original_int8: float | None = None  # original / original in int8
    speedup_original_int8_ci: tuple[float, float] | None = None
    int8_sha256: str = ""  # of the run's model.int8.onnx, where that was timed


@dataclass(frozen=True, slots=True)
class TableCheck:
    """A table's word on the network that a search chose, held against the clock, and what followed from it.

    Both times are on the clock of the table. `error` is predicted / measured - 1. If the table was `repaired`, `added`
    networks were measured and the table fitted again, whose own error was `mape_before` and became `mape_after`.
    """

    kept: tuple[int, ...]
    predicted_us: float
    measured_us: float
    error: float
    repaired: bool = False
    added: int = 0
    drift: float = 1.0  # the original's time then / when the table was measured
    mape_before: float | None = None
    mape_after: float | None = None

    @property
    def other_clock(self) -> bool:
        """Whether the device was disturbed all the time, or is another: that slows one network more than another."""
        return abs(self.drift - 1.0) > 0.1

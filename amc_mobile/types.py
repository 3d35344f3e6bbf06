"""The nouns that cross borders between folders: frozen, slotted dataclasses of plain values. Read this first.

Units are in the names. Times are float microseconds (`_us`); 1 MAC = 2 FLOPs and counts are MACs; `kept` is an integer
width (channels that stay), `keep_ratio` a fraction in (0, 1].
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

LayerKind = Literal["conv", "depthwise", "linear", "other"]
Precision = Literal["fp32", "fp16", "bf16", "int8"]
Metric = Literal["latency_us", "macs", "params", "bytes", "memory_bytes"]
RangeMethod = Literal["minmax", "percentile", "mse"]  # see export/calibrate.py
TaskName = Literal["classification", "detection"]
AccuracyName = Literal["top1", "top5", "map", "map50"]
RewardName = Literal["top1", "top5", "map", "map50", "kl"]  # see search/rewards.py
ACCURACIES: Mapping[TaskName, tuple[AccuracyName, AccuracyName]] = MappingProxyType(
    {"classification": ("top1", "top5"), "detection": ("map", "map50")}
)  # how the answers of a network are judged: the strict measure first
AxisSpans = tuple["Span", ...]
Phase = Literal[
    "opponent",  # needs no learning
    "warmup",  # the agent acts by constant noise
    "explore",  # the agent acts with decaying noise
    "local",  # around the best policy so far
    "model",  # the best policy by a model of what was seen so far
    "final",  # the agent without noise
]


# ---------------------------------------------------------------------------------------------- the network, as data


@dataclass(frozen=True, slots=True)
class Span:
    """A group's share of one axis: every kept channel of `group` stands at `positions` places along the axis.

    `positions` is 1 nearly everywhere; 49 where 7x7 maps are flattened in front of a linear layer.
    """

    group: int
    positions: int = 1


@dataclass(frozen=True, slots=True)
class WeightTensor:
    """One weight of the network and the groups along each of its axes. An axis with no spans has a fixed length."""

    name: str
    shape: tuple[int, ...]
    spans: tuple[AxisSpans, ...]
    buffer: bool = False  # running statistics of a normalisation that could not be folded: stored, but no parameter
    element_bytes: int = 4


@dataclass(frozen=True, slots=True)
class Layer:
    """One convolution or linear layer, in the order of execution.

    `name` is the layer's dotted PyTorch name ("features.1.conv.0.0"), or its ONNX node name for a foreign file.
    A depthwise convolution (`kind == "depthwise"`) has equal input and output spans. `groups` is the convolution's own
    group count (1 = dense). Kernel and stride are (height, width); a linear layer has (1, 1) for all of them.
    """

    name: str
    kind: LayerKind
    in_channels: int
    out_channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    groups: int
    in_hw: tuple[int, int]
    out_hw: tuple[int, int]
    in_spans: AxisSpans
    out_spans: AxisSpans
    weight: str  # name of the weight tensor
    bias: str | None
    input: str  # name of the ONNX tensor that the layer reads
    output: str  # name of the ONNX tensor that the layer writes

    def widths(self, kept: Sequence[int]) -> tuple[int, int]:
        """Input and output channels of this layer when group g keeps `kept[g]` channels."""
        return (
            sum(span.positions * kept[span.group] for span in self.in_spans),
            sum(span.positions * kept[span.group] for span in self.out_spans),
        )


@dataclass(frozen=True, slots=True)
class ChannelGroup:
    """One coupled set of channels that can only be removed together: one decision of the agent.

    `producers` and `consumers` are layer names; depthwise layers in between are in neither. A group that cannot be
    pruned says why in `reason`.
    """

    index: int
    name: str
    channels: int
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    prunable: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Moment:
    """Activations that are alive at the same time, while the ONNX node `node` runs.

    They take `fixed_bytes`, and `positions` bytes for every kept channel of each span's group.
    """

    node: str
    fixed_bytes: int
    spans: AxisSpans = ()


@dataclass(frozen=True, slots=True)
class Product:
    """A product of two activations, or another node without a layer of its own, that costs MACs.

    It takes `fixed_macs`, and `positions` MACs for every kept channel of each span's group.
    """

    node: str
    fixed_macs: int
    spans: AxisSpans = ()


@dataclass(frozen=True, slots=True)
class NetworkGraph:
    """What can be pruned in one network, and the shapes from which every cost follows."""

    name: str
    input_shape: tuple[int, ...]
    layers: tuple[Layer, ...]
    groups: tuple[ChannelGroup, ...]
    tensors: tuple[WeightTensor, ...]
    overhead_bytes: int = 0  # of the serialised ONNX file, beside its weights
    moments: tuple[Moment, ...] = ()  # the peak of activation memory is the largest of them, for every policy
    products: tuple[Product, ...] = ()

    def full(self) -> Policy:
        """The policy that prunes nothing."""
        return Policy(tuple(group.channels for group in self.groups))

    def timed_layers(self) -> tuple[Layer, ...]:
        """The layers by name: one that runs several times (on every map of a pyramid) is timed as one, by its sum."""
        found: dict[str, Layer] = {}
        for layer in self.layers:
            found.setdefault(layer.name, layer)
        return tuple(found.values())

    def prunable(self) -> tuple[ChannelGroup, ...]:
        """The groups that the agent decides about, in the order of execution."""
        return tuple(group for group in self.groups if group.prunable)


@dataclass(frozen=True, slots=True)
class Policy:
    """Channels kept by every group of a NetworkGraph, pinned groups included: `kept[g]` belongs to `groups[g]`."""

    kept: tuple[int, ...]


# --------------------------------------------------------------------------------------------------- devices and time


DEVICE_KEY = ("model", "runtime", "provider", "precision", "threads", "optimisation", "batch")


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

    At least `runs` runs and at least `min_time_s`; a network that is too slow for so many runs in twice that time
    gets as many as it can have, 15 at least.
    """

    rounds: int = 3
    warmups: int = 10
    runs: int = 50
    min_time_s: float = 1.0
    profile_warmups: int = 5
    profile_runs: int = 30
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

    def median_us(self) -> float:
        """Median over rounds of the rounds' medians, µs: one disturbed round does not move it."""
        return statistics.median(self.round_medians_us())


@dataclass(frozen=True, slots=True)
class NodeTime:
    """Time of one node of the runtime's optimised graph, from its own profiler: one median per round, µs."""

    name: str
    op_type: str
    outputs: tuple[str, ...]
    round_us: tuple[float, ...]


# ------------------------------------------------------------------------------------------------ cost, budget, search


@dataclass(frozen=True, slots=True)
class Cost:
    """What a policy costs. `latency_us` is predicted from a table and is None without one.

    `memory_bytes` is the peak of the activations that live at the same time. `elsewhere_us` is the predicted latency on
    further devices, by their names.
    """

    macs: int
    params: int
    bytes: int
    latency_us: float | None = None
    memory_bytes: int = 0
    elsewhere_us: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Budget:
    """An upper limit on one cost, in the metric's own unit. A guarantee: no result exceeds it.

    `device` names a further device for a latency limit there; empty for the device of the run.
    """

    metric: Metric
    limit: float
    device: str = ""


@dataclass(frozen=True, slots=True)
class Score:
    """How good a network is on some images: fractions in [0, 1]; `kl` is the divergence from the original, nats.

    A classifier has `top1` and `top5`, a detector `map` and `map50`: the mean average precision of COCO, over overlaps
    (IoU) of 0.5 to 0.95 and at 0.5. What does not apply is None.
    """

    top1: float | None
    top5: float | None
    kl: float
    images: int
    map: float | None = None
    map50: float | None = None

    def accuracy(self, name: RewardName = "kl") -> float:
        """The accuracy that a reward is about: of that name, or for "kl" the task's strict one."""
        found = self._strict() if name == "kl" else getattr(self, name)
        if found is None:
            raise ValueError(f"no {name} among {self}")
        return float(found)

    def _strict(self) -> float | None:
        return self.top1 if self.map is None else self.map


@dataclass(frozen=True, slots=True)
class Race:
    """What a network must reach to be of interest: an evaluation may stop once its `reward` must stay below `to_beat`.

    Rewards are those of search/rewards.py: minus the error, or minus the divergence.
    """

    reward: RewardName
    to_beat: float


@dataclass(frozen=True, slots=True)
class Trial:
    """One evaluated policy: a line of trials.jsonl. `seconds` is the only field that differs when a run is repeated."""

    index: int
    agent: str  # "ddpg", "uniform", "sensitivity", ...
    phase: Phase
    kept: tuple[int, ...]
    cost: Cost
    score: Score
    reward: float
    seconds: float


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The winner, and what it was chosen from.

    `budget` is the first limit, `further` are those that hold at the same time. Under the accuracy-guaranteed protocol
    `budget` names the cost that was minimised, and `least_accuracy` the search accuracy that the winner had to keep.
    """

    budget: Budget
    best: Trial
    opponents: tuple[Trial, ...]  # the best trial of every other agent
    episodes: int
    further: tuple[Budget, ...] = ()
    least_accuracy: float | None = None
    evaluations: int = 0  # different networks that were evaluated, sensitivities included


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
        """Whether the device was not in the mood in which the table was measured: the table cannot be judged then."""
        return abs(self.drift - 1.0) > 0.1


@dataclass(frozen=True, slots=True)
class Contender:
    """One network of a transfer: what it costs, and how good it became on the other images, seed by seed.

    `top1_ci` is the 95 % interval of the mean of `top1`, over images and, if there are several, over seeds. Times are
    None where no device timed it; a network of the same shape as an earlier one has that one's. `speedup` is original /
    this one.
    """

    name: str  # "pruned", "original", "uniform", "scratch"
    top1: tuple[float, ...]
    top1_ci: tuple[float, float]
    macs: int
    params: int
    bytes: int
    parity: float  # how far the exported file is from the module, relative to the largest logit
    seconds: float  # of training, all seeds; of an interrupted one its last part
    folder: str  # where its weights.pt and model.onnx are, those of the first seed
    latency_us: float | None = None
    speedup: float | None = None
    speedup_ci: tuple[float, float] | None = None

    @property
    def accuracy(self) -> float:
        """Mean top-1 over the seeds."""
        return statistics.fmean(self.top1)


@dataclass(frozen=True, slots=True)
class Gap:
    """The pruned network's top-1 minus another's on the same test images: by seed, and the mean's 95 % interval."""

    against: str
    differences: tuple[float, ...]
    interval: tuple[float, float]

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return statistics.fmean(self.differences)


@dataclass(frozen=True, slots=True)
class TransferResult:
    """transfer.json: a run's pruned backbone on other images, and what was trained alike beside it."""

    schema: int
    model: str
    run: str
    data: str
    classes: int
    train_images: int
    test_images: int
    epochs: int
    seeds: tuple[int, ...]
    contenders: tuple[Contender, ...]  # the pruned one first
    gaps: tuple[Gap, ...]
    device: DeviceInfo | None = None

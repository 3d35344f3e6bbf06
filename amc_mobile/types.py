"""The nouns that cross borders between folders: frozen, slotted dataclasses of plain values. Read this first.

Here are the network, its costs and limits, and how good it is; `measurements` has what devices measure, `trials` what a
search tried, `transfers` what a transfer found. Units are in the names. Times are float microseconds (`_us`); 1 MAC = 2
FLOPs and counts are MACs; `kept` is an integer width (channels that stay), `keep_ratio` a fraction in (0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

LayerKind = Literal["conv", "depthwise", "linear", "other"]
Precision = Literal["fp32", "fp16", "bf16", "int8"]
Metric = Literal["latency_us", "macs", "params", "bytes", "memory_bytes"]
RangeMethod = Literal["minmax", "percentile", "mse"]  # see export/calibrate.py
RangeChoice = Literal["auto", "minmax", "percentile", "mse"]  # "auto": see export/quantise.py
TaskName = Literal["classification", "detection"]
AccuracyName = Literal["top1", "top5", "map", "map50"]
RewardName = Literal["top1", "top5", "map", "map50", "kl"]  # see search/rewards.py
ACCURACIES: Mapping[TaskName, tuple[AccuracyName, AccuracyName]] = MappingProxyType(
    {"classification": ("top1", "top5"), "detection": ("map", "map50")}
)  # how the answers of a network are judged: the strict measure first
AxisSpans = tuple["Span", ...]


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


# ------------------------------------------------------------------------------------------------ cost, budget, quality


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


def cost_key(metric: Metric, device: str = "") -> str:
    """The name of a cost among several: "macs", "latency_us", or "latency_us@pixel" on a further device."""
    return f"{metric}@{device}" if device else metric


@dataclass(frozen=True, slots=True)
class Budget:
    """An upper limit on one cost, in the metric's own unit. A guarantee: no result exceeds it.

    `device` names a further device for a latency limit there; empty for the device of the run. `whole` is what shares
    of it are of: the original's cost, its latency by the clock.
    """

    metric: Metric
    limit: float
    device: str = ""
    whole: float | None = field(default=None, compare=False)

    @property
    def key(self) -> str:
        """Under which Pareto fronts keep this cost."""
        return cost_key(self.metric, self.device)

    def cost_in(self, cost: Cost) -> float | None:
        """What a network with this cost spends of it."""
        value: float | None = cost.elsewhere_us.get(self.device) if self.device else getattr(cost, self.metric)
        return value


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

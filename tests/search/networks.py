"""Tiny networks as data, with costs and evaluators whose answers are known: no ONNX, no images."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from amc_mobile.types import ChannelGroup, Layer, NetworkGraph, Policy, Score, Span, WeightTensor


@dataclass(frozen=True)
class Conv:
    """One layer to build: the groups it reads and writes."""

    reads: int
    writes: int
    kernel: int = 3
    stride: int = 1


def network(
    channels: Sequence[int], convs: Sequence[Conv], *, side: int = 32, pinned: Sequence[int] = ()
) -> NetworkGraph:
    """A graph of dense and (where a layer reads and writes the same group) depthwise convolutions."""
    layers, tensors, hw = [], [], side
    for number, conv in enumerate(convs):
        depthwise = conv.reads == conv.writes
        out_hw = math.ceil(hw / conv.stride)
        name = f"layers.{number}"
        layers.append(
            Layer(
                name=name,
                kind="depthwise" if depthwise else "conv",
                in_channels=channels[conv.reads],
                out_channels=channels[conv.writes],
                kernel=(conv.kernel, conv.kernel),
                stride=(conv.stride, conv.stride),
                padding=(conv.kernel // 2,) * 4,
                groups=channels[conv.reads] if depthwise else 1,
                in_hw=(hw, hw),
                out_hw=(out_hw, out_hw),
                in_spans=(Span(conv.reads),),
                out_spans=(Span(conv.writes),),
                weight=f"{name}.weight",
                bias=f"{name}.bias",
                input=f"t{number}",
                output=f"t{number + 1}",
            )
        )
        spans = ((Span(conv.writes),), () if depthwise else (Span(conv.reads),), (), ())
        shape = (channels[conv.writes], 1 if depthwise else channels[conv.reads], conv.kernel, conv.kernel)
        tensors.append(WeightTensor(f"{name}.weight", shape, spans))
        tensors.append(WeightTensor(f"{name}.bias", (channels[conv.writes],), ((Span(conv.writes),),)))
        hw = out_hw
    frozen = {0, len(channels) - 1, *pinned}
    groups = tuple(
        ChannelGroup(
            index=index,
            name=f"group{index}",
            channels=count,
            producers=tuple(f"layers.{n}" for n, c in enumerate(convs) if c.writes == index != c.reads),
            consumers=tuple(f"layers.{n}" for n, c in enumerate(convs) if c.reads == index != c.writes),
            prunable=index not in frozen,
            reason="input or output" if index in frozen else "",
        )
        for index, count in enumerate(channels)
    )
    return NetworkGraph("tiny", (1, channels[0], side, side), tuple(layers), groups, tuple(tensors))


def chain(widths: Sequence[int], *, side: int = 32) -> NetworkGraph:
    """Plain convolutions one after the other: 3 -> widths -> 10; every third one halves the map."""
    channels = [3, *widths, 10]
    convs = [Conv(i, i + 1, stride=2 if i % 3 == 2 else 1) for i in range(len(channels) - 1)]
    return network(channels, convs, side=side)


def residual(stream: int, inner: Sequence[int], *, side: int = 32) -> NetworkGraph:
    """A stream of `stream` channels, written by every block, with one inner depthwise width per block."""
    channels = [3, stream, *inner, 10]
    convs = [Conv(0, 1)]
    for block in range(len(inner)):
        convs += [Conv(1, 2 + block, kernel=1), Conv(2 + block, 2 + block), Conv(2 + block, 1, kernel=1)]
    return network(channels, [*convs, Conv(1, len(channels) - 1, kernel=1)], side=side)


def macs(graph: NetworkGraph) -> Callable[[Sequence[int]], float]:
    """The multiply-accumulates of a policy, written down independently of amc_mobile.cost."""

    def cost(kept: Sequence[int]) -> float:
        total = 0
        for layer in graph.layers:
            c_in, c_out = layer.widths(list(kept))
            per_position = c_out * math.prod(layer.kernel) * (1 if layer.kind == "depthwise" else c_in)
            total += per_position * math.prod(layer.out_hw)
        return float(total)

    return cost


class Separable:
    """Scores a policy by a concave sum over the groups: the optimum under a budget can be computed.

    kl = sum over groups of weight * (1 - kept / channels) ** 2; top1 falls with it.
    """

    def __init__(self, graph: NetworkGraph, weights: Sequence[float]) -> None:
        self.graph = graph
        self.weights = dict(zip([group.index for group in graph.prunable()], weights, strict=True))
        self.calls = 0

    def evaluate(self, policy: Policy, to_beat: float | None = None) -> Score:
        self.calls += 1
        loss = self.loss(policy)
        return Score(top1=math.exp(-loss), top5=math.exp(-loss / 2), kl=loss, images=100)

    def loss(self, policy: Policy) -> float:
        return sum(self._terms(policy))

    def _terms(self, policy: Policy) -> list[float]:
        return [
            weight * (1 - policy.kept[index] / self.graph.groups[index].channels) ** 2
            for index, weight in self.weights.items()
        ]


class Coupled(Separable):
    """Neighbouring groups harm each other as well, which their sensitivities alone do not show."""

    def loss(self, policy: Policy) -> float:
        terms = self._terms(policy)
        harm = [3 * (number % 2) * math.sqrt(a * b) for number, (a, b) in enumerate(pairwise(terms))]
        return sum(terms) + sum(harm)

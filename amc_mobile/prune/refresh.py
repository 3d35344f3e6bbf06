"""The last repair: layer after layer learns from what really arrives in the pruned network.

The search repairs every layer as if all others were whole, so that one Gram matrix serves every policy. Once the
policy is known, the layers are walked in order of execution: each is refitted from the inputs that the pruned, already
refreshed network gives it, to the outputs of the original network at the same places (He, Zhang and Sun, Channel
pruning, ICCV 2017, section 3.2). Where a layer's output is added to a shortcut, its target is the original sum minus
what now arrives on the shortcut, so that the errors of the stream do not pile up.

Least squares on inputs that carry errors pulls its answers towards their mean, the more the fewer images there are,
and layer after layer that can cost more than it repairs: MobileNet-V2 loses by it what ResNet-56 gains. So a part of
the images is not fitted to, and the network is walked twice: once each layer's new weights stay only if the whole
network's answers to those images come nearer to the original's, once they always stay. The nearer network is taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from scipy.special import log_softmax

from amc_mobile.device.protocol import Progress
from amc_mobile.graph.prepare import activations
from amc_mobile.graph.traced import Channels, TracedGraph, Weights
from amc_mobile.models.outcomes import divergences
from amc_mobile.prune.gram import draw, input_rows, window_of
from amc_mobile.prune.layout import Array, Problem, by_weight, from_matrix, problems, to_matrix
from amc_mobile.prune.least_squares import cross_moments, fitted
from amc_mobile.prune.moments import WIDEST_GRAM
from amc_mobile.prune.patches import linear_rows
from amc_mobile.prune.segments import Runner, Segment, Take, Tensor, segments

_RIDGES = (1, 30)  # times the ridge asked for: the pulls towards the old weights that every layer is tried with
_HELD_OUT = 4  # every fourth part of the images: the last one
_MOST_HELD_OUT = 100


Distance = Callable[[Array, Array], float]  # (the original's answers, the pruned network's)


@dataclass(frozen=True, slots=True)
class _Settings:
    points: int
    ridge: float
    seed: int
    threads: int | None
    distance: Distance


@dataclass(frozen=True, slots=True)
class _Target:
    """What a layer must imitate: the tensor `made` of the original, less `skip` of the pruned one if there is one."""

    made: str
    skip: str | None


def refresh(
    traced: TracedGraph,
    channels: Channels,
    weights: Weights | None,
    images: Tensor,
    *,
    points_per_image: int,
    ridge: float,
    seed: int,
    threads: int | None = None,
    progress: Progress | None = None,
    distance: Distance | None = None,
) -> dict[str, Array]:
    """Refreshed weights and biases of the network pruned to `channels`, by initialiser name, in their sliced shapes.

    Args:
        weights: the repaired weights to start from, as Reconstructor gives them; what is not refreshed stays.
        images: calibration images, preprocessed, (N, C, H, W).
        points_per_image: sampled output positions of a layer per image.
        ridge: the pull towards the weights of before, relative to the mean diagonal of the inputs' moments. Each layer
            is also tried with a stronger one.
        distance: of two networks' answers, for what they are for; None: the mean KL divergence KL(original || pruned)
            of logits (N, classes), in nats, and the squared error of any other answer.

    Layers that share a weight, read the images themselves, or are too wide for a Gram matrix stay as they are. So does
    everything with fewer than four images.
    """
    if len(images) < _HELD_OUT:
        return dict(weights or {})
    settings = _Settings(points_per_image, ridge, seed, threads, distance or _distance_of_logits)
    parts = segments(traced.model, len(images))
    walks = [_Walk(traced, channels, weights or {}, images, settings, cautious=cautious) for cautious in (True, False)]
    for round_, walk in enumerate(walks):
        for number, segment in enumerate(parts):
            walk.do(segment)
            if progress is not None:
                progress(round_ * len(parts) + number + 1, 2 * len(parts), "refreshing the layers")
    return min(walks, key=lambda walk: walk.error).weights


class _Walk:
    """Both networks, as far as they have been run, side by side."""

    def __init__(
        self,
        traced: TracedGraph,
        channels: Channels,
        weights: Weights,
        images: Tensor,
        settings: _Settings,
        *,
        cautious: bool,
    ) -> None:
        self.weights: dict[str, Array] = dict(weights)
        self._traced, self._channels = traced, channels
        self._original = Runner(traced.model, settings.threads)
        self._pruned = Runner(traced.slice(channels, weights), settings.threads)
        self._images = len(images)
        self._fitted = len(images) - min(len(images) // _HELD_OUT, _MOST_HELD_OUT)  # the first ones
        self._before = self._after = images
        self._settings, self._cautious = settings, cautious
        self._nodes = {
            name: (index, node) for index, node in enumerate(traced.model.graph.node) for name in node.output
        }
        grouped = by_weight(problems(traced, every=True)).values()
        alone = [parts for parts in grouped if len(parts[0].layers) == 1]
        self._problems = {
            self._nodes[parts[0].layers[0].output][0]: parts
            for parts in alone
            if parts[0].matrix(traced).shape[0] <= WIDEST_GRAM and parts[0].layers[0].input in self._nodes
        }
        self._shapes = {item.name: str(item.type.tensor_type.shape) for item in traced.model.graph.value_info}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in traced.model.graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self._targets = {index: self._target(parts[0]) for index, parts in self._problems.items()}
        self._end, self._answer_name = len(traced.model.graph.node), traced.model.graph.output[0].name
        whole = Segment(activations(traced.model.graph)[0].name, self._answer_name, 0, self._end)
        self._answers = self._held_out(self._original, whole, images)
        self.error = self._distance(whole)

    def do(self, segment: Segment) -> None:
        """Refreshes the segment's layers and takes both networks to its end."""
        here = [index for index in range(segment.first, segment.last) if index in self._problems]
        takes = [Take(self._targets[index].made, self._outputs_at(index)) for index in here]
        self._before, *made = self._original.run(segment, self._before, self._images, [Take(segment.exit), *takes])
        for index, wanted in zip(here, made, strict=True):
            self._refresh(segment, index, wanted)
        (self._after,) = self._pruned.run(segment, self._after, self._images, [Take(segment.exit)])
        if segment.last == self._end:
            self.error = self._distance(Segment(segment.exit, segment.exit, self._end, self._end))

    def _refresh(self, segment: Segment, index: int, made: Tensor) -> None:
        parts, skip = self._problems[index], self._targets[index].skip
        layer, bias = parts[0].layers[0], parts[0].biases[0]
        takes = [Take(layer.input, self._inputs_at(index)), *([Take(skip, self._outputs_at(index))] if skip else [])]
        rows, *arrived = self._pruned.run(segment, self._after, self._images, takes)
        stay = self._traced.positions(parts[0].weight, 1 - parts[0].axis, self._channels)
        wanted = made[:, stay]
        if skip:
            wanted = wanted - arrived[0]
        elif bias is not None and layer.bias is None:  # the bias is added by a node of its own
            wanted = wanted + self._traced.weight(bias)[stay]
        self._choose(parts, rows, wanted, Segment(segment.entry, self._answer_name, segment.first, self._end))

    def _choose(self, parts: tuple[Problem, ...], rows: Tensor, wanted: Tensor, rest: Segment) -> None:
        """Puts new weights in their places if any of them brings the held-out answers nearer to the original's."""
        names = [name for name in (parts[0].weight, parts[0].biases[0]) if name is not None]
        count = len(rows) // self._images * self._fitted
        own, cross = cross_moments(rows[:count], wanted[:count])
        best = old = {name: self._pruned.arrays[name] for name in names}
        for factor in _RIDGES if self._cautious else _RIDGES[:1]:
            self._pruned.arrays.update(old)
            new = self._fit(parts, own, cross, self._settings.ridge * factor)
            self._pruned.arrays.update(new)
            error = self._distance(rest) if self._cautious else 0.0
            if error < self.error or not self._cautious:
                self.error, best = error, new
        self._pruned.arrays.update(best)
        if best is not old:
            self.weights.update(best)

    def _fit(self, parts: tuple[Problem, ...], own: Array, cross: Array, ridge: float) -> dict[str, Array]:
        """A layer's weight and bias from the moments of all its parts."""
        weight, bias, axis = parts[0].weight, parts[0].biases[0], parts[0].axis
        old = self._pruned.arrays[weight]
        matrix = to_matrix(old, axis).astype(np.float64)
        inputs, outputs = (np.split(np.arange(n), len(parts)) for n in (len(own) - 1, matrix.shape[1]))
        answers = []
        for ins, outs in zip(inputs, outputs, strict=True):
            rows = [*ins, len(own) - 1]
            block = (own[np.ix_(rows, rows)], cross[np.ix_(rows, outs)])
            answers.append(fitted(block, matrix[:, outs], ridge, intercept=bias is not None))
        whole = from_matrix(np.concatenate([answer for answer, _ in answers], axis=1), axis, old.shape[2:])
        arrays = {weight: np.ascontiguousarray(whole, np.float32)}
        if bias is not None:
            shift = np.concatenate([shift for _, shift in answers])
            arrays[bias] = shift.astype(np.float32).reshape(self._pruned.arrays[bias].shape)
        return arrays

    def _held_out(self, runner: Runner, segment: Segment, data: Tensor) -> Tensor:
        """A network's answers to the held-out images, from the segment's entry on."""
        first = len(data) // self._images * self._fitted
        (answers,) = runner.run(segment, data[first:], self._images - self._fitted, [Take(segment.exit)])
        return answers

    def _distance(self, rest: Segment) -> float:
        """How far the pruned network's held-out answers are from the original's."""
        return self._settings.distance(self._answers, self._held_out(self._pruned, rest, self._after))

    def _positions(self, index: int) -> NDArray[np.int64]:
        """Sampled output positions of the layer, (N, P)."""
        layer = self._problems[index][0].layers[0]
        generator = np.random.default_rng([self._settings.seed, index])
        return draw(generator, self._images, math.prod(layer.out_hw), self._settings.points)

    def _inputs_at(self, index: int) -> Callable[[Tensor, int, int], Tensor]:
        """What the layer reads at its positions, (N * P, K)."""
        layer, positions = self._problems[index][0].layers[0], self._positions(index)
        window = window_of(layer, self._nodes[layer.output][1])

        def rows(tensor: Tensor, first: int, count: int) -> Tensor:
            data = tensor.reshape(count, -1, tensor.shape[-1]) if layer.kind == "linear" else tensor
            return input_rows(layer, window, data, positions[first : first + count])

        return rows

    def _outputs_at(self, index: int) -> Callable[[Tensor, int, int], Tensor]:
        """A tensor like the layer's output at the same positions, (N * P, out)."""
        layer, positions = self._problems[index][0].layers[0], self._positions(index)

        def places(tensor: Tensor, first: int, count: int) -> Tensor:
            own = positions[first : first + count]
            if layer.kind == "linear":
                return linear_rows(tensor.reshape(count, -1, tensor.shape[-1]), own)
            flat = tensor.reshape(count, tensor.shape[1], -1).transpose(0, 2, 1)
            return linear_rows(flat, own)

        return places

    def _target(self, problem: Problem) -> _Target:
        """The sum with a shortcut that the layer's output goes straight into, or the layer's own output."""
        readers = self._readers
        tensor = problem.layers[0].output
        own = self._nodes[tensor][0]
        while len(readers.get(tensor, [])) == 1 and readers[tensor][0].op_type == "Add":
            node = readers[tensor][0]
            other = node.input[1] if node.input[0] == tensor else node.input[0]
            if other in self._shapes and self._shapes.get(other) == self._shapes.get(tensor):
                earlier = other not in self._nodes or self._nodes[other][0] < own
                return _Target(node.output[0], other) if earlier else _Target(problem.layers[0].output, None)
            if other != problem.biases[0]:
                break
            tensor = node.output[0]
        return _Target(problem.layers[0].output, None)


def _distance_of_logits(right: Array, own: Array) -> float:
    """Mean KL divergence KL(right || own) of logits (N, classes), in nats; squared error of any other answer."""
    right, own = right.astype(np.float64), own.astype(np.float64)
    if own.ndim != 2:
        return float(np.square(own - right).mean())
    return float(divergences(log_softmax(right, axis=1), own).mean())

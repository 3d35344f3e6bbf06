"""One network beside its pruned copy, layer after layer: what `refresh` is made of.

A Plan says which layers are refitted, from which inputs and towards which targets. The Original runs once and says what
its layers answer; a Walk takes the pruned network along, as far as the original has come, and refits its layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx
from numpy.typing import NDArray

from amc_mobile.graph.prepare import activations
from amc_mobile.graph.traced import Channels, TracedGraph, Weights
from amc_mobile.prune.gram import draw, input_rows, window_of
from amc_mobile.prune.layout import Array, Masks, Problem, by_weight, from_matrix, problems, to_matrix
from amc_mobile.prune.least_squares import cross_moments, fitted
from amc_mobile.prune.moments import WIDEST_GRAM
from amc_mobile.prune.patches import linear_rows
from amc_mobile.prune.segments import Runner, Segment, Take, Tensor, segments

RIDGES = (1, 30)  # times the ridge asked for: the pulls towards the old weights that a cautious walk tries
HELD_OUT = 4  # every fourth part of the images: the last one
_MOST_HELD_OUT = 100

Distance = Callable[[Array, Array], float]  # (the original's answers, the pruned network's)


@dataclass(frozen=True, slots=True)
class Settings:
    """How layers are refitted. `points` are sampled output positions of a layer per image."""

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


class Plan:
    """Which layers of a network are refitted, and where their inputs and targets are found. Policies share it."""

    def __init__(self, traced: TracedGraph, images: Tensor, settings: Settings) -> None:
        """Takes calibration images, preprocessed, (N, C, H, W)."""
        self.traced, self.settings, self.images = traced, settings, images
        self.fitted = len(images) - min(len(images) // HELD_OUT, _MOST_HELD_OUT)  # the first ones
        self.segments = segments(traced.model, len(images))
        self._nodes = {
            name: (index, node) for index, node in enumerate(traced.model.graph.node) for name in node.output
        }
        grouped = by_weight(problems(traced, every=True)).values()
        alone = [parts for parts in grouped if len(parts[0].layers) == 1]
        self.problems = {
            self._nodes[parts[0].layers[0].output][0]: parts
            for parts in alone
            if parts[0].matrix(traced).shape[0] <= WIDEST_GRAM and parts[0].layers[0].input in self._nodes
        }
        self.widest = max((parts[0].matrix(traced).shape[0] for parts in self.problems.values()), default=0)
        self._shapes = {item.name: str(item.type.tensor_type.shape) for item in traced.model.graph.value_info}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in traced.model.graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self.targets = {index: self._target(parts[0]) for index, parts in self.problems.items()}
        self.end, self.answer = len(traced.model.graph.node), traced.model.graph.output[0].name
        self.whole = Segment(activations(traced.model.graph)[0].name, self.answer, 0, self.end)

    def layers(self, segment: Segment) -> list[int]:
        """The segment's layers that are refitted, by the numbers of their nodes, in order of execution."""
        return [index for index in range(segment.first, segment.last) if index in self.problems]

    def held_out(self, runner: Runner, segment: Segment, data: Tensor) -> Tensor:
        """A network's answers to the held-out images, from the segment's entry on. `data` is the entry, for all."""
        first = len(data) // len(self.images) * self.fitted
        (answers,) = runner.run(segment, data[first:], len(self.images) - self.fitted, [Take(segment.exit)])
        return answers

    def inputs_at(self, index: int) -> Callable[[Tensor, int, int], Tensor]:
        """What the layer reads at its positions, (N * P, K)."""
        layer, positions = self.problems[index][0].layers[0], self._positions(index)
        window = window_of(layer, self._nodes[layer.output][1])

        def rows(tensor: Tensor, first: int, count: int) -> Tensor:
            data = tensor.reshape(count, -1, tensor.shape[-1]) if layer.kind == "linear" else tensor
            return input_rows(layer, window, data, positions[first : first + count])

        return rows

    def outputs_at(self, index: int) -> Callable[[Tensor, int, int], Tensor]:
        """A tensor like the layer's output at the same positions, (N * P, out)."""
        layer, positions = self.problems[index][0].layers[0], self._positions(index)

        def places(tensor: Tensor, first: int, count: int) -> Tensor:
            own = positions[first : first + count]
            if layer.kind == "linear":
                return linear_rows(tensor.reshape(count, -1, tensor.shape[-1]), own)
            flat = tensor.reshape(count, tensor.shape[1], -1).transpose(0, 2, 1)
            return linear_rows(flat, own)

        return places

    def _positions(self, index: int) -> NDArray[np.int64]:
        """Sampled output positions of the layer, (N, P)."""
        layer = self.problems[index][0].layers[0]
        generator = np.random.default_rng([self.settings.seed, index])
        return draw(generator, len(self.images), math.prod(layer.out_hw), self.settings.points)

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


class Original:
    """The original network, from one segment's end to the next."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._at = plan, plan.images
        self._runner = Runner(plan.traced.model, plan.settings.threads)
        self.answers = plan.held_out(self._runner, plan.whole, plan.images)

    def go(self, segment: Segment) -> list[Tensor]:
        """What the segment's layers must imitate at their positions, (N * P, out) each. Segments come in order."""
        plan = self._plan
        takes = [Take(plan.targets[index].made, plan.outputs_at(index)) for index in plan.layers(segment)]
        self._at, *made = self._runner.run(segment, self._at, len(plan.images), [Take(segment.exit), *takes])
        return made


class Walk:
    """The pruned network, as far as it has been refitted. `error` is its distance from the original so far."""

    def __init__(
        self,
        plan: Plan,
        answers: Tensor,
        channels: Channels,
        weights: Weights,
        ridges: Sequence[float],
        *,
        cautious: bool,
        masks: Masks | None = None,
    ) -> None:
        """Takes the original's `answers` to the held-out images, and the `masks` that a sparse network's weights keep.

        A cautious walk tries every layer with each of `ridges` (times the settings'), and keeps its new weights only if
        they bring the whole network's answers nearer. The other takes the first ridge.
        """
        self.weights: dict[str, Array] = dict(weights)
        self._plan, self._answers, self._channels = plan, answers, channels
        self._ridges, self._cautious = ridges if cautious else ridges[:1], cautious
        self._masks = {name: mask for name, mask in (masks or {}).items() if not mask.all()}
        self._runner = Runner(plan.traced.slice(channels, weights), plan.settings.threads)
        self._at = plan.images
        self.error = self.error_before = self._distance(plan.whole)

    def go(self, segment: Segment, made: Sequence[Tensor]) -> None:
        """Refits the segment's layers, towards what the original made there, and goes on to the segment's end."""
        plan = self._plan
        for index, wanted in zip(plan.layers(segment), made, strict=True):
            self._refit(segment, index, wanted)
        (self._at,) = self._runner.run(segment, self._at, len(plan.images), [Take(segment.exit)])
        if segment.last == plan.end:
            self.error = self._distance(Segment(segment.exit, segment.exit, plan.end, plan.end))

    def _refit(self, segment: Segment, index: int, made: Tensor) -> None:
        plan = self._plan
        parts, skip = plan.problems[index], plan.targets[index].skip
        layer, bias = parts[0].layers[0], parts[0].biases[0]
        takes = [Take(layer.input, plan.inputs_at(index)), *([Take(skip, plan.outputs_at(index))] if skip else [])]
        rows, *arrived = self._runner.run(segment, self._at, len(plan.images), takes)
        stay = plan.traced.positions(parts[0].weight, 1 - parts[0].axis, self._channels)
        wanted = made[:, stay]
        if skip:
            wanted = wanted - arrived[0]
        elif bias is not None and layer.bias is None:  # the bias is added by a node of its own
            wanted = wanted + plan.traced.weight(bias)[stay]
        self._choose(parts, rows, wanted, Segment(segment.entry, plan.answer, segment.first, plan.end))

    def _choose(self, parts: tuple[Problem, ...], rows: Tensor, wanted: Tensor, rest: Segment) -> None:
        """Puts new weights in their places; on a cautious walk only if the held-out answers come nearer by them."""
        names = [name for name in (parts[0].weight, parts[0].biases[0]) if name is not None]
        count = len(rows) // len(self._plan.images) * self._plan.fitted
        inputs, outputs = (np.split(tensor[:count], len(parts), axis=1) for tensor in (rows, wanted))
        fit = partial(self._fit, parts, [cross_moments(*pair) for pair in zip(inputs, outputs, strict=True)])
        best = old = {name: self._runner.arrays[name] for name in names}
        for factor in self._ridges:
            self._runner.arrays.update(old)
            new = fit(self._plan.settings.ridge * factor)
            self._runner.arrays.update(new)
            if not self._cautious:
                best = new
            elif (error := self._distance(rest)) < self.error:
                self.error, best = error, new
        self._runner.arrays.update(best)
        if best is not old:
            self.weights.update(best)

    def _fit(
        self, parts: tuple[Problem, ...], moments: Sequence[tuple[Array, Array]], ridge: float
    ) -> dict[str, Array]:
        """A layer's weight and bias from the moments of each of its parts."""
        weight, bias, axis = parts[0].weight, parts[0].biases[0], parts[0].axis
        old = self._runner.arrays[weight]
        matrix = to_matrix(old, axis).astype(np.float64)
        outputs = np.split(np.arange(matrix.shape[1]), len(parts))
        mask = to_matrix(self._masks[weight], axis) if weight in self._masks else None
        answers = []
        for block, outs in zip(moments, outputs, strict=True):
            stays = None if mask is None else mask[:, outs]
            answers.append(fitted(block, matrix[:, outs], ridge, intercept=bias is not None, stays=stays))
        whole = from_matrix(np.concatenate([answer for answer, _ in answers], axis=1), axis, old.shape[2:])
        arrays = {weight: np.ascontiguousarray(whole, np.float32)}
        if bias is not None:
            shift = np.concatenate([shift for _, shift in answers])
            arrays[bias] = shift.astype(np.float32).reshape(self._runner.arrays[bias].shape)
        return arrays

    def _distance(self, rest: Segment) -> float:
        """How far the held-out answers are from the original's."""
        plan = self._plan
        return plan.settings.distance(self._answers, plan.held_out(self._runner, rest, self._at))

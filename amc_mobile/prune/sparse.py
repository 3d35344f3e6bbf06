"""Fine-grained pruning: single weights are set to zero, the least important first, with a share of its own per layer.

Han et al. 2015; under AMC's search in He et al. 2018, section 3.2. Which weights matter, weight_ranking.py says.
`sparse_view` shows a network to the search as one whose layers can each keep any number of weights; everything that
works on a NetworkGraph then works unchanged. Widths are counted in units of as many weights as the kernel has places,
so that MACs and parameters are exact: a layer that keeps n units has n * kernel height * kernel width weights that are
not zero, anywhere in the tensor.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import onnx
from numpy.typing import NDArray

from amc_mobile.errors import GraphError
from amc_mobile.graph.traced import TracedGraph, Weights, first_channels
from amc_mobile.prune.layout import Mask, Masks
from amc_mobile.prune.sparse_repair import SparseReconstructor
from amc_mobile.prune.weight_ranking import WeightRanking, rank_weights
from amc_mobile.types import ChannelGroup, Layer, LayerKind, Moment, NetworkGraph, Policy, Span, WeightTensor


def sparse_view(network: NetworkGraph) -> NetworkGraph:
    """The network with one prunable group per weight, in order of execution, and a last, pinned group of one channel.

    MACs are those of the weights that are not zero, parameters likewise (biases and norms stay whole). `bytes` is what
    the weights that are not zero take; a file that stores the zeros too is as large as before. Activations stay, and a
    latency table says nothing of such a network.
    """
    shared: dict[str, list[Layer]] = {}
    for layer in network.layers:
        shared.setdefault(layer.weight, []).append(layer)
    shapes = {tensor.name: tensor.shape for tensor in network.tensors}
    groups = tuple(_group(index, layers, shapes[weight]) for index, (weight, layers) in enumerate(shared.items()))
    one = ChannelGroup(len(groups), "one", 1, (), (), False, "stands for what sparsity does not change")
    number = {weight: index for index, weight in enumerate(shared)}
    taps = {weight: math.prod(layers[0].kernel) for weight, layers in shared.items()}
    full = network.full().kept
    return replace(
        network,
        layers=tuple(_layer(layer, number[layer.weight], one.index) for layer in network.layers),
        groups=(*groups, one),
        tensors=tuple(_tensor(tensor, number.get(tensor.name), taps) for tensor in network.tensors),
        moments=tuple(_moment(moment, full) for moment in network.moments),
    )


class SparsePruner:
    """Fine-grained pruning with the Pruner's interface. Masks are nested: what goes stays away when more go."""

    def __init__(
        self, traced: TracedGraph, ranking: WeightRanking | None = None, repair: SparseReconstructor | None = None
    ) -> None:
        """Without a ranking the smallest weights go first. `repair` refits what stays; without it it is what it was."""
        self.traced = traced
        self._repair = repair
        self.network = sparse_view(traced.network)
        self._whole = first_channels(traced.network.full())
        self._weights = {layer.weight: layer for layer in traced.network.layers}
        ranking = rank_weights(traced, "l1") if ranking is None else ranking
        self._ranks = {weight: _ranks(ranking[weight], traced.weight(weight).shape) for weight in self._weights}

    def masks(self, policy: Policy) -> Masks:
        """Which weights stay. Raises: GraphError if the policy is not one of `network`, the sparse view."""
        groups = self.network.groups
        if len(policy.kept) != len(groups):
            raise GraphError(
                f"{len(policy.kept)} numbers of weights for {len(groups)} groups of {self.network.name}; "
                "give a policy of its sparse view"
            )
        masks: dict[str, Mask] = {}
        for group, kept, (weight, layer) in zip(groups, policy.kept, self._weights.items(), strict=False):
            if not 1 <= kept <= group.channels:
                raise GraphError(f"layer {group.name} of {self.network.name} must keep 1..{group.channels} units")
            masks[weight] = self._ranks[weight] < kept * math.prod(layer.kernel)
        return masks

    def prune(self, policy: Policy, weights: Weights | None = None) -> onnx.ModelProto:
        """The network in its full size, with zeros: `weights`, or its own. Raises: GraphError as `masks`."""
        return self.traced.slice(self._whole, self.weights(self.masks(policy)) if weights is None else weights)

    def weights(self, masks: Masks) -> dict[str, NDArray[np.generic]]:
        """What changes, by name: weights with zeros outside their masks, refitted if there is a repair, and biases."""
        arrays: dict[str, NDArray[np.generic]] = {
            name: self.traced.weight(name) * mask for name, mask in masks.items() if not mask.all()
        }
        if self._repair is not None:
            for name, mask in masks.items():
                arrays |= self._repair.weights(name, mask)
        return arrays


def _group(index: int, layers: list[Layer], shape: tuple[int, ...]) -> ChannelGroup:
    units = math.prod(shape) // math.prod(layers[0].kernel)
    names = tuple(dict.fromkeys(layer.name for layer in layers))
    return ChannelGroup(index, names[0], units, names, names, units > 1, "" if units > 1 else "a single unit")


def _layer(layer: Layer, group: int, one: int) -> Layer:
    kind: LayerKind = "linear" if layer.kind == "linear" else "conv"
    return replace(layer, kind=kind, groups=1, in_spans=(Span(group),), out_spans=(Span(one),))


def _tensor(tensor: WeightTensor, group: int | None, taps: dict[str, int]) -> WeightTensor:
    if group is None:
        return replace(tensor, spans=((),) * len(tensor.shape))
    return replace(tensor, shape=(math.prod(tensor.shape),), spans=((Span(group, taps[tensor.name]),),))


def _moment(moment: Moment, full: tuple[int, ...]) -> Moment:
    total = moment.fixed_bytes + sum(span.positions * full[span.group] for span in moment.spans)
    return replace(moment, fixed_bytes=total, spans=())


def _ranks(order: NDArray[np.int64], shape: tuple[int, ...]) -> NDArray[np.int32]:
    """How many weights of the tensor are more important, for each weight of it."""
    ranks = np.empty(len(order), np.int32)
    ranks[order] = np.arange(len(order), dtype=np.int32)
    return ranks.reshape(shape)

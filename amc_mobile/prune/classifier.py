"""Another classifier on the same backbone: a network whose last layer answers other classes (He et al. 2018, 4.3)."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import nn

from amc_mobile.errors import GraphError, first_line
from amc_mobile.graph.prepare import note_of
from amc_mobile.graph.traced import Channels, TracedGraph
from amc_mobile.types import ChannelGroup, NetworkGraph


def classifiers(traced: TracedGraph) -> tuple[str, ...]:
    """The modules whose output channels are the network's answers: one linear layer or 1x1 convolution, rarely more.

    Whatever stands behind it (an activation, an average over positions, a reshape) keeps channels as they are. A sum
    of several such layers is understood; they are one group. Raises: GraphError if the network ends otherwise.
    """
    group = _answers(traced)
    layers = [layer for layer in traced.network.layers if layer.name in group.producers]
    plain = all(layer.kernel == (1, 1) and layer.groups == 1 and layer.kind != "other" for layer in layers)
    if not layers or group.consumers or not plain:
        raise GraphError(
            f"{traced.network.name} does not end in a linear layer or 1x1 convolution whose outputs are the classes, "
            "so that its classifier cannot be replaced; end it in one"
        )
    transposed: dict[str, str] = note_of(traced.model, "amc.transposed") or {}
    return tuple(transposed.get(layer.weight, layer.weight).rpartition(".")[0] for layer in layers)


def answering(traced: TracedGraph, channels: Channels, classes: int) -> tuple[NetworkGraph, Channels]:
    """The network's description and the channels that stay, with so many classes: what policy.json is made of."""
    own, network = _answers(traced), traced.network
    groups = tuple(dataclasses.replace(group, channels=classes) if group is own else group for group in network.groups)
    stay = (np.arange(classes) if group is own else kept for group, kept in zip(network.groups, channels, strict=True))
    return dataclasses.replace(network, groups=groups), tuple(stay)


def reclassify(module: nn.Module, names: tuple[str, ...], shape: tuple[int, ...], classes: int, *, seed: int) -> None:
    """Gives the module, in place, a fresh classifier for so many classes; its inputs keep their width.

    `names` are those of `classifiers`, `shape` is (C, H, W) of one image. The same seed gives the same weights, drawn
    as PyTorch draws those of a new layer. Raises: GraphError if the module does not work with so many classes.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name in names:
            _renew(module.get_submodule(name), name, classes)
    advice = "its code must not say how many classes there are"
    module.eval()
    try:
        with torch.inference_mode():
            answer = module(torch.zeros(1, *shape))
    except Exception as error:  # the user's own code may raise anything
        raise GraphError(f"the network does not run with {classes} classes ({first_line(error)}); {advice}") from error
    if not isinstance(answer, torch.Tensor) or answer.shape != (1, classes):
        found = tuple(answer.shape) if isinstance(answer, torch.Tensor) else type(answer).__name__
        raise GraphError(f"with {classes} classes the network answers {found}, not {(1, classes)}; {advice}")


def _answers(traced: TracedGraph) -> ChannelGroup:
    """The group of channels that the network answers. The last layer makes it: nothing else is left in the graph."""
    spans = traced.network.layers[-1].out_spans
    group = traced.network.groups[spans[0].group]
    width = traced.model.graph.output[0].type.tensor_type.shape.dim[-1].dim_value
    if len(spans) != 1 or spans[0].positions != 1 or group.channels != width:
        raise GraphError(
            f"the answers of {traced.network.name} are not the channels of its last layer {group.name}, so that its "
            "classifier cannot be replaced; end it in a linear layer or a 1x1 convolution"
        )
    return group


def _renew(part: nn.Module, name: str, classes: int) -> None:
    """A layer with new weights for so many outputs. Raises: GraphError for any other kind of module."""
    if not isinstance(part, nn.Linear | nn.Conv2d):
        raise GraphError(f"the classifier {name} is a {type(part).__name__}; only Linear and Conv2d can be replaced")
    if isinstance(part, nn.Linear):
        part.out_features = classes
    else:
        part.out_channels = classes
    part.weight = nn.Parameter(torch.empty(classes, *part.weight.shape[1:]))
    if part.bias is not None:
        part.bias = nn.Parameter(torch.empty(classes))
    part.reset_parameters()

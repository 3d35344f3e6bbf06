"""Back through the door: a trained module's weights as the arrays that its ONNX graph stores."""

from __future__ import annotations

import math

import numpy as np
import onnx
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from amc_mobile.errors import GraphError
from amc_mobile.export.fold import Affine
from amc_mobile.graph.prepare import note_of


def folded_weights(module: nn.Module, model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """The module's arrays under the names of the graph's initialisers, batch norms folded as in the graph.

    `model` is the graph exported from the module, or a slice of it with the module's widths; what it says in its
    metadata ("amc.folded", "amc.transposed", "amc.stretched") decides. Initialisers that are no parameters are left
    out.
    Raises: GraphError if an array does not have the shape that the graph stores.
    """
    transposed, stretched, folded = _names(model)
    state = {name: tensor.detach().cpu().numpy() for name, tensor in module.state_dict().items()}
    parts = dict(module.named_modules())
    for layer, norm in folded.items():
        name = f"{layer}.weight" if f"{layer}.weight" in state else layer  # a raw parameter is its own layer
        weight, bias = _affine(parts[norm], norm).after(state[name], state.get(f"{layer}.bias"), axis=0)
        state |= {name: weight, f"{layer}.bias": bias}
    arrays = {}
    for tensor in model.graph.initializer:
        parameter = (transposed | stretched).get(tensor.name, tensor.name)
        if parameter in state:
            array = state[parameter].T if tensor.name in transposed else state[parameter]
            if tensor.name in stretched and array.size == math.prod(tensor.dims):
                array = array.reshape(tuple(tensor.dims))
            if array.shape != tuple(tensor.dims):
                raise GraphError(
                    f"{parameter} has shape {array.shape} in the module but {tuple(tensor.dims)} in the graph; "
                    "slice both for the same channels"
                )
            arrays[tensor.name] = np.ascontiguousarray(array)
    return arrays


def freeze_unstored(module: nn.Module, model: onnx.ModelProto) -> None:
    """Stops, in place, the training of parameters that the graph stores only computed into something else.

    An example is the table of scores by relative position in a window attention: `folded_weights` cannot bring such
    a parameter back into the graph. `model` is the module's exported graph.
    """
    transposed, stretched, folded = _names(model)
    sources = transposed | stretched
    stored = {sources.get(tensor.name, tensor.name) for tensor in model.graph.initializer}
    norms = set(folded.values())
    named = list(module.named_parameters(remove_duplicate=False))  # the graph knows a shared one by any of its names
    kept = {id(each) for name, each in named if name in stored or name.rpartition(".")[0] in norms}
    for _, parameter in named:
        if id(parameter) not in kept:
            parameter.requires_grad_(False)


def _names(model: onnx.ModelProto) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Parameters by the initialisers that hold them transposed, or with further axes; batch norms by their layers."""
    transposed, stretched, folded = (note_of(model, f"amc.{key}") for key in ("transposed", "stretched", "folded"))
    return transposed or {}, stretched or {}, folded or {}


def _affine(norm: nn.Module, name: str) -> Affine:
    """The batch normalisation's map in eval mode. Without affine parameters, gamma is 1 and beta 0."""
    if not isinstance(norm, _BatchNorm) or norm.running_mean is None or norm.running_var is None:
        raise GraphError(f"{name} is folded in the graph but is no batch normalisation in the module")
    mean, variance = norm.running_mean, norm.running_var
    gamma = torch.ones_like(mean) if norm.weight is None else norm.weight
    beta = torch.zeros_like(mean) if norm.bias is None else norm.bias
    arrays = [tensor.detach().cpu().numpy() for tensor in (gamma, beta, mean, variance)]
    return Affine.of(arrays[0], arrays[1], arrays[2], arrays[3], norm.eps)

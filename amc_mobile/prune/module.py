"""The pruned network as a PyTorch module: parameters cut like the graph's weights, refitted weights written back."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Set

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from amc_mobile.errors import GraphError, first_line
from amc_mobile.export.to_onnx import parity
from amc_mobile.graph.prepare import note_of
from amc_mobile.graph.traced import Channels, TracedGraph, Weights
from amc_mobile.prune.heads import head_width, is_window_attention
from amc_mobile.prune.resize import Pads, resize, set_pads, shortcuts

_TOLERANCE = 1e-3  # of the largest logit; equal networks differ by 1e-6
_SMALLEST_SCALE = 1e-4  # of a batch norm's largest scale: a channel below it is given this scale

State = dict[str, torch.Tensor]


def slice_module(module: nn.Module, traced: TracedGraph, channels: Channels) -> nn.Module:
    """A copy of the module, on the CPU, from which the channels that do not stay are physically removed.

    Parameters are matched with the graph's weights by name; a folded batch norm is cut like the layer before it.
    Raises: GraphError if the module's own code insists on the old numbers of channels.
    """
    small = copy.deepcopy(module).cpu()
    sliced = traced.slice(channels)
    cut(small, traced, channels, sliced)
    _check(small, sliced, traced)
    return small


def cut(module: nn.Module, traced: TracedGraph, channels: Channels, sliced: onnx.ModelProto) -> None:
    """Removes channels from the module, in place and unchecked, as they are removed in the sliced graph."""
    resize(module, _sliced_state(module, traced, channels))
    set_pads(module, _graph_pads(module, sliced))


def assign(module: nn.Module, weights: Weights, traced: TracedGraph) -> None:
    """Writes refitted (folded) weights into a sliced module, in place: in eval mode it then equals the sliced graph.

    Batch norms stay trainable. A refit preserves every output's mean, so it is the running mean that follows the
    folded bias, while beta and (nearly always) gamma keep their values: training goes on from the same statistics.
    Raises: GraphError if a weight does not fit the module.
    """
    folded, transposed = _metadata(traced, "amc.folded"), _metadata(traced, "amc.transposed")
    parts = dict(module.named_modules())
    layers: dict[str, State] = {}
    for name, array in weights.items():
        layer, _, kind = transposed.get(name, name).rpartition(".")
        layers.setdefault(layer, {})[kind] = torch.tensor(array.T if name in transposed else array, dtype=torch.float64)
    with torch.no_grad():
        for layer, tensors in layers.items():
            norm = parts.get(folded.get(layer, ""))
            if isinstance(norm, _BatchNorm):
                tensors["weight"] = _unfold(parts[layer], norm, tensors["weight"], tensors.pop("bias", None))
            for kind, tensor in tensors.items():
                parameter = getattr(parts.get(layer), kind, None)
                if not isinstance(parameter, torch.Tensor) or parameter.shape != tensor.shape:
                    raise GraphError(f"{layer}.{kind} does not fit the module; slice it for the same channels first")
                parameter.copy_(tensor)


def _unfold(layer: nn.Module, norm: _BatchNorm, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """The layer's own weight that is the folded one when `norm` follows. Moves the norm's running mean.

    Folding is weight' = s weight and bias' = beta + s (bias - mean) with s = gamma / sqrt(var + eps). Without a folded
    bias it stays what it is.
    """
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None or len(mean) != len(weight):
        raise GraphError("a folded batch norm does not fit the module; slice it for the same channels first")
    deviation = torch.sqrt(variance.double() + norm.eps)
    scale = (torch.ones_like(deviation) if norm.weight is None else norm.weight.double()) / deviation
    beta = torch.zeros_like(scale) if norm.bias is None else norm.bias.double()
    own_bias = layer.bias.double() if isinstance(layer.bias, torch.Tensor) else torch.zeros_like(scale)
    bias = beta + scale * (own_bias - mean) if bias is None else bias
    tiny = scale.abs() < _SMALLEST_SCALE * scale.abs().max()
    if tiny.any():  # nothing can be divided by a dead channel's scale
        scale[tiny] = _SMALLEST_SCALE * float(scale.abs().max()) or 1.0
        norm.weight[tiny] = (scale * deviation)[tiny].float()
    mean.copy_(own_bias - (bias - beta) / scale)
    return weight / scale.reshape(-1, *[1] * (weight.ndim - 1))


def _sliced_state(module: nn.Module, traced: TracedGraph, channels: Channels) -> State:
    """The module's state_dict with every tensor cut along the axes that the graph prunes."""
    stored = {item.name for item in traced.model.graph.initializer}
    norms = {norm: f"{layer}.weight" for layer, norm in _metadata(traced, "amc.folded").items()}
    flipped = {parameter: name for name, parameter in _metadata(traced, "amc.transposed").items()}
    stretched = {parameter: name for name, parameter in _metadata(traced, "amc.stretched").items()}
    state = {}
    for name, tensor in module.state_dict().items():
        owner = name.rpartition(".")[0]
        if name in flipped:
            kept = [traced.positions(flipped[name], axis, channels) for axis in (1, 0)]
        elif name in stretched:
            kept = _unstretched(traced, stretched[name], tensor.shape, channels)
        elif name in stored:
            kept = [traced.positions(name, axis, channels) for axis in range(tensor.ndim)]
        elif owner in norms and tensor.ndim:
            weight = norms[owner]
            kept = [traced.positions(flipped.get(weight, weight), 1 if weight in flipped else 0, channels)]
        else:
            kept = []  # no part of the graph: counters, heads that only training uses
        state[name] = tensor[np.ix_(*kept)] if kept else tensor
    return state | _shared(module, state, stored) | _sliced_tables(module, traced, channels, flipped)


def _shared(module: nn.Module, state: State, stored: Set[str]) -> State:
    """The tensors of parameters that the graph stores by another of their names: layers that share one weight."""
    named = list(module.named_parameters(remove_duplicate=False))
    known = {id(parameter): name for name, parameter in named if name in stored}
    return {name: state[known[id(each)]] for name, each in named if name not in stored and id(each) in known}


def _sliced_tables(module: nn.Module, traced: TracedGraph, channels: Channels, flipped: Mapping[str, str]) -> State:
    """Window attention's scores by relative position, (offsets, heads): the graph stores only what is made of them."""
    tables = {}
    for name, part in module.named_modules():
        if is_window_attention(part):
            weight = f"{name}.qkv.weight"
            rows = traced.positions(flipped.get(weight, weight), 1 if weight in flipped else 0, channels)
            heads = np.unique(rows // head_width(part)) if len(rows) < len(part.qkv.weight) else slice(None)
            own = heads[heads < part.num_heads] if isinstance(heads, np.ndarray) else heads
            tables[f"{name}.relative_position_bias_table"] = part.relative_position_bias_table.detach()[:, own]
    return tables


def _unstretched(traced: TracedGraph, name: str, shape: torch.Size, channels: Channels) -> list[np.ndarray]:
    """What stays along each axis of a parameter that the graph stores with other axes of length one."""
    long = iter([axis for axis, length in enumerate(traced.weight(name).shape) if length > 1])
    return [traced.positions(name, next(long), channels) if length > 1 else np.arange(1) for length in shape]


def _graph_pads(module: nn.Module, model: onnx.ModelProto) -> Pads:
    """For every shortcut that adds zero channels, how many of them the sliced graph's Pad node has left."""
    nodes = {node.name: node for node in model.graph.node if node.op_type == "Pad"}
    stored = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    pads: Pads = {}
    for name, _ in shortcuts(module):
        node = nodes.get(f"{name}/Pad")
        if node is None:
            raise GraphError(f"the graph has no Pad node of {name}; export the network again with `amc`")
        counts = stored[node.input[1]].tolist()
        axes = stored[node.input[3]].tolist() if len(node.input) > 3 and node.input[3] else range(len(counts) // 2)
        at = list(axes).index(1)
        pads[name] = (counts[at], counts[at + len(counts) // 2])
    return pads


def _check(module: nn.Module, sliced: onnx.ModelProto, traced: TracedGraph) -> None:
    """Runs both networks on noise. Raises: GraphError if the module cannot run or differs."""
    shape = traced.network.input_shape[1:]
    noise = np.random.default_rng(0).standard_normal((1, *shape)).astype(np.float32)
    advice = "write it without fixed channel counts, as x.flatten(1) instead of x.view(-1, 512)"
    name = traced.network.name
    try:
        difference = parity(module, sliced, noise)
    except Exception as error:  # the user's own code may raise anything
        raise GraphError(
            f"the code of {name} does not run with fewer channels ({first_line(error)}); {advice}"
        ) from error
    if difference > _TOLERANCE:
        raise GraphError(f"the sliced {name} differs from its graph by {difference:.1e} of the largest logit; {advice}")


def _metadata(traced: TracedGraph, key: str) -> dict[str, str]:
    """A mapping that the export left in the graph; empty for a foreign file."""
    return note_of(traced.model, key) or {}

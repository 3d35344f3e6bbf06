"""What a policy costs, by formula. 1 MAC = 2 FLOPs; counts are MACs of one image.

MACs are those of convolutions, linear layers and products of two activations (attention), equal to half of what
torch.utils.flop_counter counts.
Parameters and bytes are those of the graph that ships: batch normalisations are folded wherever they can be.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from amc_mobile.types import Layer, NetworkGraph, WeightTensor


def layer_macs(layer: Layer, kept: Sequence[int]) -> int:
    """MACs of one layer when group g keeps `kept[g]` channels.

    A 3x3 convolution from 3 to 8 channels that makes 4x4 maps costs 4 * 4 * 3 * 3 * 3 * 8 = 3456 MACs.
    """
    wide_in, wide_out = layer.widths(kept)
    window = math.prod(layer.kernel) * math.prod(layer.out_hw)
    if layer.kind == "depthwise":
        return window * wide_out
    return window * wide_in // layer.groups * wide_out


def macs(network: NetworkGraph, kept: Sequence[int]) -> int:
    """MACs of the whole network."""
    products = sum(
        product.fixed_macs + sum(span.positions * kept[span.group] for span in product.spans)
        for product in network.products
    )
    return sum(layer_macs(layer, kept) for layer in network.layers) + products


def params(network: NetworkGraph, kept: Sequence[int]) -> int:
    """Trainable values of the graph that ships."""
    return sum(_elements(tensor, kept) for tensor in network.tensors if not tensor.buffer)


def size_bytes(network: NetworkGraph, kept: Sequence[int]) -> int:
    """Size of the ONNX file: its weights, and the description around them.

    Never less than the file has: the description is counted as the original's. Pruning shortens only its numbers, by
    a few bytes for each weight.
    """
    weights = sum(tensor.element_bytes * _elements(tensor, kept) for tensor in network.tensors)
    return weights + network.overhead_bytes


def memory_bytes(network: NetworkGraph, kept: Sequence[int]) -> int:
    """Peak of the activations alive at the same time, as graph.liveness counts them; 0 for a graph without moments."""
    return max(
        (
            moment.fixed_bytes + sum(span.positions * kept[span.group] for span in moment.spans)
            for moment in network.moments
        ),
        default=0,
    )


def _elements(tensor: WeightTensor, kept: Sequence[int]) -> int:
    return math.prod(
        sum(span.positions * kept[span.group] for span in spans) if spans else length
        for spans, length in zip(tensor.spans, tensor.shape, strict=True)
    )

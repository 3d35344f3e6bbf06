"""Rows of a layer's least-squares problem: the inputs that one output position sees, in the order of the weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Window:
    """Which inputs a convolution sees from an output position, each pair as (height, width)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    start: tuple[int, int]  # padding above and left of the map
    dilation: tuple[int, int] = (1, 1)


def conv_rows(images: np.ndarray, window: Window, out_width: int, positions: np.ndarray) -> np.ndarray:
    """Input patches of the sampled output positions: X with Y = X @ weight.reshape(out, -1).T + bias.

    Args:
        images: the layer's input, (N, C, H, W).
        window: kernel, stride, padding and dilation of the convolution.
        out_width: width of the layer's output map.
        positions: flat positions y * out_width + x in the output map, (N, P).

    Returns:
        (N * P, C * kernel height * kernel width), zeros where the kernel reaches into the padding.
    """
    n, _, height, width = images.shape
    row, row_inside = _axis(positions // out_width, 0, height, window)  # (N, P, kh)
    column, column_inside = _axis(positions % out_width, 1, width, window)  # (N, P, kw)
    image = np.arange(n)[:, None, None, None]
    patches = images.transpose(0, 2, 3, 1)[image, row[..., :, None], column[..., None, :]]  # (N, P, kh, kw, C)
    patches = patches * (row_inside[..., :, None] & column_inside[..., None, :])[..., None]
    return np.ascontiguousarray(np.moveaxis(patches, -1, 2)).reshape(n * positions.shape[1], -1)


def linear_rows(inputs: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Sampled input rows of a linear layer, (N * P, K). inputs: (N, tokens, K); positions: (N, P) among the tokens."""
    rows: np.ndarray = inputs[np.arange(len(inputs))[:, None], positions]
    return rows.reshape(-1, inputs.shape[-1])


def _axis(position: np.ndarray, axis: int, length: int, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Input indices along one axis (clipped to the map) and which of them lie inside it."""
    taps = np.arange(window.kernel[axis]) * window.dilation[axis]
    index = position[..., None] * window.stride[axis] - window.start[axis] + taps
    return np.clip(index, 0, length - 1), (index >= 0) & (index < length)

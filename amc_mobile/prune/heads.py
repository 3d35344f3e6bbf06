"""Attention with fewer heads than its embedding has room for: what torch's and torchvision's own code cannot run."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torchvision.models.swin_transformer import ShiftedWindowAttention

_FORBIDDEN = -100.0  # added to the score of two pixels that are no neighbours: as in torchvision, no weight is left


def fit_heads(part: Any) -> None:
    """Turns an attention, in place, into one with as many heads as its weights now have; others are left alone."""
    if isinstance(part, nn.MultiheadAttention) and isinstance(part.in_proj_weight, nn.Parameter):
        heads = len(part.in_proj_weight) // (3 * part.head_dim)
        if heads != part.num_heads:
            part.num_heads = heads
            part.__class__ = FewerHeads
    elif is_window_attention(part):
        width = head_width(part)
        heads = part.qkv.out_features // (3 * width)
        if heads != part.num_heads:
            vars(part).update(num_heads=heads, head_width=width)
            part.__class__ = FewerWindowHeads


def is_window_attention(part: nn.Module) -> bool:
    """Whether the part is torchvision's window attention of the first version, whole or pruned."""
    return type(part) in (ShiftedWindowAttention, FewerWindowHeads)


def head_width(part: Any) -> int:
    """Channels of one head of a window attention."""
    return int(getattr(part, "head_width", 0)) or int(part.qkv.in_features) // int(part.num_heads)


class FewerHeads(nn.MultiheadAttention):
    """Self- or cross-attention with packed weights (3 * heads * width, embedding), without masks."""

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        key_padding_mask: torch.Tensor | None = None,
        need_weights: bool = True,
        attn_mask: torch.Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[torch.Tensor, None]:
        """Answers (output, None), shapes as the original: (N, L, embedding), or (L, N, embedding).

        Raises: ValueError for masks, which this does not know.
        """
        if key_padding_mask is not None or attn_mask is not None or is_causal or self.bias_k is not None:
            raise ValueError("an attention with fewer heads takes no masks")
        weights = self.in_proj_weight.chunk(3)
        biases = (None, None, None) if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        given = [x if self.batch_first else x.transpose(0, 1) for x in (query, key, value)]
        q, k, v = (
            _heads(functional.linear(x, weight, bias), self.num_heads)
            for x, weight, bias in zip(given, weights, biases, strict=True)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0.0)
        out: torch.Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return out if self.batch_first else out.transpose(0, 1), None


class FewerWindowHeads(ShiftedWindowAttention):  # type: ignore[misc] # torchvision has no types
    """Attention inside (shifted) windows of a feature map (Liu et al., ICCV 2021, section 3.2)."""

    head_width: int

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, H, W, C) -> (N, H, W, C)."""
        images, height, width, channels = x.shape
        high, wide = self.window_size
        padded = functional.pad(x, (0, 0, 0, -width % wide, 0, -height % high))
        rows, columns = padded.shape[1:3]
        # a window that covers the whole map has nothing to be shifted for
        shift = (0 if high >= rows else self.shift_size[0], 0 if wide >= columns else self.shift_size[1])
        windows = _windows(torch.roll(padded, (-shift[0], -shift[1]), (1, 2)), high, wide)
        mixed = self._attend(windows, self._scores(shift, (rows, columns), images))
        maps = mixed.reshape(images, rows // high, columns // wide, high, wide, channels).transpose(2, 3)
        maps = torch.roll(maps.reshape(images, rows, columns, channels), shift, (1, 2))
        return maps[:, :height, :width].contiguous()

    def _attend(self, windows: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Windows (windows, pixels, C) after attention; `scores` are added to those of every pair of pixels."""
        q, k, v = self.qkv(windows).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        loss = self.attention_dropout if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=scores, dropout_p=loss)
        out = self.proj(mixed.transpose(1, 2).flatten(2))
        return functional.dropout(out, self.dropout, self.training)

    def _scores(self, shift: tuple[int, int], size: tuple[int, int], images: int) -> torch.Tensor:
        """Shape (windows or 1, heads, pixels, pixels). Pixels rolled in from the far side are foreign."""
        near: torch.Tensor = self.get_relative_position_bias()
        if not any(shift):
            return near
        sides = [
            _regions(length, window, step, near.device)
            for length, window, step in zip(size, self.window_size, shift, strict=True)
        ]
        labels = (3 * sides[0][:, None] + sides[1])[None, :, :, None]
        labels = _windows(labels, self.window_size[0], self.window_size[1])  # (windows, pixels, 1)
        foreign = (labels != labels.transpose(1, 2)) * _FORBIDDEN
        return near + foreign.to(near.dtype).repeat(images, 1, 1)[:, None]


def _heads(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """(N, L, heads * width) -> (N, heads, L, width)."""
    return rows.reshape(*rows.shape[:2], heads, -1).transpose(1, 2)


def _windows(maps: torch.Tensor, high: int, wide: int) -> torch.Tensor:
    """(N, H, W, C) -> (N * windows, high * wide, C)."""
    images, rows, columns, channels = maps.shape
    cut = maps.reshape(images, rows // high, high, columns // wide, wide, channels)
    return cut.transpose(2, 3).reshape(-1, high * wide, channels)


def _regions(length: int, window: int, shift: int, device: torch.device) -> torch.Tensor:
    """For each row of a rolled map which piece of the image it comes from; only the last window mixes two."""
    place = torch.arange(length, device=device)
    return (place >= length - window).int() + (place >= length - shift).int() if shift else torch.zeros_like(place)

"""Attention of our own equals torch's and torchvision's as long as it has all of its heads."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torchvision.models.swin_transformer import ShiftedWindowAttention

from amc_mobile.prune.heads import FewerHeads, FewerWindowHeads, fit_heads


def close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.allclose(one, other, rtol=0.0, atol=1e-5 * float(other.detach().abs().max()))


def renamed(part: nn.Module, kind: type[nn.Module]) -> nn.Module:
    """The same weights, run by another class."""
    own = copy.deepcopy(part)
    own.__class__ = kind
    return own


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_self_and_cross_attention(batch_first: bool, bias: bool) -> None:
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(12, 3, bias=bias, batch_first=batch_first).eval()
    ours = renamed(theirs, FewerHeads)
    query, other = torch.randn(4, 4, 12), torch.randn(4, 4, 12)
    for given in ((query, query, query), (query, other, other)):
        assert close(ours(*given)[0], theirs(*given)[0])
    with pytest.raises(ValueError, match="takes no masks"):
        ours(query, query, query, attn_mask=torch.zeros(4, 4))


@pytest.mark.parametrize(("size", "shift"), [((14, 14), 0), ((14, 21), 3), ((10, 16), 3), ((5, 7), 3), ((7, 15), 3)])
def test_window_attention(size: tuple[int, int], shift: int) -> None:
    torch.manual_seed(0)
    theirs = ShiftedWindowAttention(12, [7, 7], [shift, shift], 3).eval()
    nn.init.normal_(theirs.relative_position_bias_table)
    x = torch.randn(2, *size, 12)
    assert close(renamed(theirs, FewerWindowHeads)(x), theirs(x))


def test_an_attention_follows_its_weights() -> None:
    attention = nn.MultiheadAttention(12, 3)
    fit_heads(attention)
    assert type(attention) is nn.MultiheadAttention
    attention.in_proj_weight = nn.Parameter(torch.randn(24, 12))
    attention.in_proj_bias = nn.Parameter(torch.randn(24))
    attention.out_proj = nn.Linear(8, 12)
    fit_heads(attention)
    assert isinstance(attention, FewerHeads) and attention.num_heads == 2
    attention(*[torch.randn(5, 1, 12)] * 3)[0].sum().backward()
    assert attention.in_proj_weight.grad is not None

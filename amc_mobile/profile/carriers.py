"""Carriers: randomly pruned variants of one network, inside which its layers are measured."""

from __future__ import annotations

import numpy as np
from scipy.special import betaincinv

from amc_mobile.cost.widths import width_grid
from amc_mobile.types import NetworkGraph, Policy

_SMALLEST_MEAN = 0.3  # means of a carrier's keep ratios lie between this and 1
_CONCENTRATIONS = (4.0, 1.0)  # of the beta distribution around the mean, in turn: scattered widely, and contrasts


def draw(network: NetworkGraph, count: int, seed: int, min_keep_ratio: float, round_to: int) -> list[Policy]:
    """Random policies that cover every group's widths and all sizes of the whole network evenly.

    A Latin hypercube: each group's ratios come from `count` equal strata, one for each carrier, and so do the carriers'
    means. The ratios scatter around their carrier's mean by a beta distribution, so that carriers are also small or
    large as a whole; independent ratios would all give networks of middling size. Every second carrier is full of
    contrasts, thin groups beside whole ones: what searches propose, and what layers of one size would never show.
    """
    rng = np.random.default_rng(seed)
    groups = network.prunable()
    low = max(_SMALLEST_MEAN, min_keep_ratio)
    means = low + (1.0 - low) * _strata(rng, count)
    quantiles = np.stack([_strata(rng, count) for _ in groups], axis=1) if groups else np.empty((count, 0))
    centre = np.clip((means - min_keep_ratio) / max(1.0 - min_keep_ratio, 1e-9), 0.02, 0.98)[:, None]
    concentration = np.resize(_CONCENTRATIONS, count)[:, None]
    spread = betaincinv(concentration * centre, concentration * (1.0 - centre), quantiles)  # (count, groups)
    ratios = min_keep_ratio + (1.0 - min_keep_ratio) * spread
    policies = []
    for line in ratios:
        kept = list(network.full().kept)
        for group, ratio in zip(groups, line, strict=True):
            grid = width_grid(group.channels, min_keep_ratio, round_to)
            kept[group.index] = min(grid, key=lambda width, want=ratio * group.channels: abs(width - want))  # type: ignore[misc]
        policies.append(Policy(tuple(kept)))
    return policies


def smallest(network: NetworkGraph, min_keep_ratio: float, round_to: int) -> Policy:
    """The policy that prunes every group to its limit."""
    return Policy(
        tuple(
            width_grid(group.channels, min_keep_ratio, round_to)[0] if group.prunable else group.channels
            for group in network.groups
        )
    )


def _strata(rng: np.random.Generator, count: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """One random number from each of `count` equal parts of (0, 1), in random order."""
    return (rng.permutation(count) + rng.random(count)) / count

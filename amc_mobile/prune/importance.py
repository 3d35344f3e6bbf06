"""Which channels of a group matter: a ranking for every group, from most to least important."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from amc_mobile.errors import ConfigError
from amc_mobile.graph.traced import Channels, TracedGraph
from amc_mobile.prune.elimination import rank_by_elimination
from amc_mobile.prune.feature_maps import rank_by_feature_maps
from amc_mobile.prune.gram import Grams
from amc_mobile.prune.magnitude import rank_by_medians, rank_by_weights
from amc_mobile.types import Policy

if TYPE_CHECKING:
    from torch import nn

Method = Literal["reconstruction", "activation", "l1", "taylor", "fpgm", "hrank"]
Ranking = tuple[NDArray[np.int64], ...]  # for every group, all its channels from most to least important


def rank(
    traced: TracedGraph,
    method: Method,
    grams: Grams | None = None,
    *,
    images: NDArray[np.float32] | None = None,
    labels: NDArray[np.int64] | None = None,
    module: nn.Module | None = None,
) -> Ranking:
    """The channels of every group by importance; pinned groups keep their order.

    * "reconstruction": what least squares cannot repair when the channel goes (elimination.py); made for layers
      that are refitted, and a worse choice than "activation" where they are not. Takes seconds, needs `grams`.
    * "l1": the L1 norm of the consumers' weights per input channel (He et al. 2018).
    * "activation": as "l1", each weight times the root mean square of the input it meets; needs `grams`.
    * "taylor": activation times gradient of the loss (Molchanov et al. 2017); needs `images` and the PyTorch `module`.
    * "fpgm": distance of the producers' filters from all others (He et al. 2019).
    * "hrank": mean rank of the feature maps (Lin et al. 2020); needs `images`.

    Args:
        grams: second moments of the calibration images.
        images: the calibration images themselves, preprocessed, (N, C, H, W).
        labels: their classes, for "taylor"; none: the network's own answers are taken for right.
        module: the network that `traced` was exported from.

    Raises: ConfigError for an unknown method, or one that lacks what it needs.
    """
    if method not in get_args(Method):
        raise ConfigError(f"unknown importance {method!r}; choose one of {', '.join(get_args(Method))}")
    orders = _orders(traced, method, grams, images, labels, module)
    groups = traced.network.groups
    return tuple(orders.get(group.index, np.arange(group.channels)) for group in groups)


def keep(policy: Policy, ranking: Ranking) -> Channels:
    """The channels that a policy keeps: the most important ones of each group, ascending."""
    return tuple(np.sort(order[:kept]) for order, kept in zip(ranking, policy.kept, strict=True))


def _orders(
    traced: TracedGraph,
    method: Method,
    grams: Grams | None,
    images: NDArray[np.float32] | None,
    labels: NDArray[np.int64] | None,
    module: nn.Module | None,
) -> dict[int, NDArray[np.int64]]:
    """The order of every prunable group."""
    if method == "l1":
        return rank_by_weights(traced, None)
    if method == "fpgm":
        return rank_by_medians(traced)
    if method in ("activation", "reconstruction"):
        if grams is None:
            raise ConfigError(f"importance {method!r} needs calibration images; choose 'l1' or give some")
        return rank_by_elimination(traced, grams) if method == "reconstruction" else rank_by_weights(traced, grams)
    if images is None:
        raise ConfigError(f"importance {method!r} needs calibration images; choose 'l1' or give some")
    if method == "hrank":
        return rank_by_feature_maps(traced, images)
    if module is None:
        raise ConfigError("importance 'taylor' needs gradients, and a bare ONNX file has none; choose 'reconstruction'")
    from amc_mobile.prune.taylor import rank_by_gradients

    return rank_by_gradients(traced, module, images, labels)

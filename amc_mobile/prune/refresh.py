"""The last repair: layer after layer learns from what really arrives in the pruned network.

The search repairs every layer as if all others were whole, so that one Gram matrix serves every policy. Once the
policy is known, the layers are walked in order of execution: each is refitted from the inputs that the pruned, already
refreshed network gives it, to the outputs of the original network at the same places (He, Zhang and Sun, Channel
pruning, ICCV 2017, section 3.2). Where a layer's output is added to a shortcut, its target is the original sum minus
what now arrives on the shortcut, so that the errors of the stream do not pile up.

Least squares on inputs that carry errors pulls its answers towards their mean, the more the fewer images there are,
and layer after layer that can cost more than it repairs: MobileNet-V2 loses by it what ResNet-56 gains. So a part of
the images is not fitted to, and the network is walked twice: once each layer's new weights stay only if the whole
network's answers to those images come nearer to the original's, once they always stay. The nearer network is taken.
"""

from __future__ import annotations

import numpy as np
from scipy.special import log_softmax
from threadpoolctl import threadpool_limits

from amc_mobile.device.protocol import Progress
from amc_mobile.graph.traced import Channels, TracedGraph, Weights
from amc_mobile.models.outcomes import divergences
from amc_mobile.prune.layout import Array, Masks
from amc_mobile.prune.segments import Tensor
from amc_mobile.prune.walk import HELD_OUT, RIDGES, Distance, Original, Plan, Settings, Walk

STIFFER = (1, 30, 1000)  # times the ridge: what few images need differs more from network to network
_WIDE = 2048  # inputs of a layer from which on its products are worth several threads


def refresh(
    traced: TracedGraph,
    channels: Channels,
    weights: Weights | None,
    images: Tensor,
    *,
    points_per_image: int,
    ridge: float,
    seed: int,
    threads: int | None = None,
    progress: Progress | None = None,
    distance: Distance | None = None,
    masks: Masks | None = None,
) -> dict[str, Array]:
    """Refreshed weights and biases of the network pruned to `channels`, by initialiser name, in their sliced shapes.

    Args:
        weights: the repaired weights to start from, as Reconstructor gives them; what is not refreshed stays.
        images: calibration images, preprocessed, (N, C, H, W), in an order of chance: the last ones are held out.
        points_per_image: sampled output positions of a layer per image.
        ridge: the pull towards the weights of before, relative to the mean diagonal of the inputs' moments. Each layer
            is also tried with a stronger one.
        distance: of two networks' answers, for what they are for; None: the mean KL divergence KL(original || pruned)
            of logits (N, classes), in nats, and the squared error of any other answer.
        masks: which weights of a sparse network stay, by name (SparsePruner.masks); the others stay zero.

    Layers that share a weight, read the images themselves, or are too wide for a Gram matrix stay as they are. So does
    everything with fewer than four images.
    """
    if len(images) < HELD_OUT:
        return dict(weights or {})
    plan = Plan(traced, images, Settings(points_per_image, ridge, seed, threads, distance or _distance_of_logits))
    with _blas_threads(plan):
        original = Original(plan)
        walks = [
            Walk(plan, original.answers, channels, weights or {}, RIDGES, cautious=cautious, masks=masks)
            for cautious in (True, False)
        ]
        for number, segment in enumerate(plan.segments):
            made = original.go(segment)
            for walk in walks:
                walk.go(segment, made)
            if progress is not None:
                progress(number + 1, len(plan.segments), "refreshing the layers")
    return min(walks, key=lambda walk: walk.error).weights


class Refresher:
    """Refreshes one policy of a network after the other, in seconds each: by a single walk that is not cautious.

    The original runs once, and what its layers answer at the sampled places is kept.
    """

    def __init__(
        self,
        traced: TracedGraph,
        images: Tensor,
        *,
        points_per_image: int,
        ridge: float,
        seed: int,
        threads: int | None = None,
        distance: Distance | None = None,
    ) -> None:
        """Takes what `refresh` takes. Raises: ValueError for fewer than four images."""
        if len(images) < HELD_OUT:
            raise ValueError(f"{len(images)} images are too few to refresh from")
        settings = Settings(points_per_image, ridge, seed, threads, distance or _distance_of_logits)
        self._plan = Plan(traced, images, settings)
        original = Original(self._plan)
        self._answers = original.answers
        self._made = [original.go(segment) for segment in self._plan.segments]
        self._ridge: float = STIFFER[0]

    def tune(self, channels: Channels, weights: Weights) -> bool:
        """Chooses the ridge that serves this policy best. False: with none of them it comes nearer to the original."""
        walks = {ridge: self._walk(channels, weights, ridge) for ridge in STIFFER}
        self._ridge = min(walks, key=lambda ridge: walks[ridge].error)
        return walks[self._ridge].error < walks[self._ridge].error_before

    def weights(self, channels: Channels, weights: Weights) -> Weights | None:
        """Refreshed weights, or None where the walk brings the held-out answers no nearer to the original's."""
        walk = self._walk(channels, weights, self._ridge)
        return walk.weights if walk.error < walk.error_before else None

    def _walk(self, channels: Channels, weights: Weights, ridge: float) -> Walk:
        with _blas_threads(self._plan):
            walk = Walk(self._plan, self._answers, channels, weights, (ridge,), cautious=False)
            for segment, made in zip(self._plan.segments, self._made, strict=True):
                walk.go(segment, made)
        return walk


def _blas_threads(plan: Plan) -> threadpool_limits:
    """One thread where the products are small: beside ONNX Runtime's own, threads that wait cost more than they do."""
    return threadpool_limits(limits=1 if plan.widest < _WIDE else None, user_api="blas")


def _distance_of_logits(right: Array, own: Array) -> float:
    """Mean KL divergence KL(right || own) of logits (N, classes), in nats; squared error of any other answer."""
    right, own = right.astype(np.float64), own.astype(np.float64)
    if own.ndim != 2:
        return float(np.square(own - right).mean())
    return float(divergences(log_softmax(right, axis=1), own).mean())

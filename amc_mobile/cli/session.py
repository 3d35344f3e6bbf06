"""What the stages of one run share: its folder, its settings, and what is read from them once and only when needed."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from amc_mobile.cli.console import note
from amc_mobile.cli.open_device import open_device
from amc_mobile.errors import ConfigError, GraphError
from amc_mobile.runs import read_json

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from amc_mobile.config import RunConfig
    from amc_mobile.cost.table import LatencyTable
    from amc_mobile.device.protocol import Device, Progress
    from amc_mobile.graph.traced import Channels, TracedGraph, Weights
    from amc_mobile.models.evaluation import BatchEvaluator
    from amc_mobile.models.preprocessing import Preprocessing
    from amc_mobile.models.splits import Splits
    from amc_mobile.models.task import Task
    from amc_mobile.models.zoo import ModelEntry
    from amc_mobile.prune.gram import Grams
    from amc_mobile.prune.importance import Method, Ranking
    from amc_mobile.prune.layout import Masks
    from amc_mobile.prune.pruner import Pruner
    from amc_mobile.prune.reconstruct import Reconstructor
    from amc_mobile.prune.sparse import SparsePruner
    from amc_mobile.prune.weight_ranking import WeightRanking
    from amc_mobile.runs import RunFolder
    from amc_mobile.types import NetworkGraph, Policy


class Session:
    """One run at work. What it reads lazily are the outputs of finished stages, which do not change any more."""

    def __init__(self, folder: RunFolder, config: RunConfig) -> None:
        self.folder = folder
        self.config = config
        self._refreshed: dict[bytes, Weights] = {}

    @property
    def threads(self) -> int:
        """Cores for evaluation and calibration. The device's own thread count is another matter."""
        return self.config.search.threads or len(os.sched_getaffinity(0))

    @cached_property
    def entry(self) -> ModelEntry:
        """The network's entry in the zoo, or what its ONNX file tells, with this run's preprocessing."""
        from amc_mobile.models.zoo import entry_of, preprocessing_for

        if self.config.model.onnx is None:
            found, purpose = entry_of(self.config.model), self.config.model.purpose
            if found.task != purpose:
                raise ConfigError(
                    f"{found.name} is for {found.task}, not for {purpose}; set model.task = '{found.task}'"
                )
            return found
        from amc_mobile.export import onnx_entry

        entry = onnx_entry.entry_of(self.original_onnx, self.config.model.name)
        return replace(entry, preprocessing=preprocessing_for(entry, self.config.model))

    @cached_property
    def task(self) -> Task:
        """What the network is for, and how its answers are judged."""
        from amc_mobile.models.task import task_of

        return task_of(self.entry.task, None if self.config.model.onnx else self.original)

    @property
    def preprocessing(self) -> Preprocessing:
        """How the network wants its images."""
        return self.entry.preprocessing

    @cached_property
    def splits(self) -> Splits:
        """The images: disjoint parts for training, searching, calibration and testing."""
        from amc_mobile.models.data import check_labels
        from amc_mobile.models.splits import make_splits

        splits = make_splits(self.config.data, self.config.seed, self.entry.classes)
        for images in (splits.search.images, splits.test.images):
            check_labels(images, self.entry.classes, self.entry.name, self.entry.task)
        return splits

    @cached_property
    def original(self) -> nn.Module:
        """The trained network, before any pruning."""
        from amc_mobile.models.zoo import load_module

        return load_module(self.entry, self.folder.require(self.folder.original_weights, "search"))

    @cached_property
    def original_onnx(self) -> onnx.ModelProto:
        """The trained network as it was exported."""
        return read_onnx(self.folder.require(self.folder.original_onnx, "search"))

    @cached_property
    def traced(self) -> TracedGraph:
        """The exported network with its channel groups."""
        from amc_mobile.graph.trace import trace

        return trace(self.original_onnx, self.config.model.name, self.config.model.skip)

    @cached_property
    def device(self) -> Device:
        """The device, opened."""
        return open_device(self.config.device, force=self.config.profile.force)

    @cached_property
    def grams(self) -> Grams:
        """The second moments of the calibration images."""
        from amc_mobile.prune.gram import Grams

        return Grams.load(self.folder.require(self.folder.gram, "search"))

    @cached_property
    def ranking(self) -> Ranking:
        """The channels of every group, from most to least important: ranked once, then read from ranking.npz."""
        from amc_mobile.prune.ranking_file import load_ranking, save_ranking

        method, network = self.config.prune.importance, self.traced.network
        sizes = [group.channels for group in network.groups]
        ranking = load_ranking(self.folder.ranking, method, sizes, network.name)
        if ranking is None:
            ranking = self._rank(method)
            save_ranking(self.folder.ranking, method, ranking)
        return ranking

    def _rank(self, method: Method) -> Ranking:
        from amc_mobile.prune.importance import rank

        if method not in ("taylor", "hrank"):
            return rank(self.traced, method, self.grams)
        if method == "taylor" and self.entry.task == "detection":
            raise ConfigError("importance 'taylor' follows the loss of a classifier; choose 'reconstruction'")
        split = self.splits.calibration
        module = self.original if method == "taylor" and self.config.model.onnx is None else None
        images = split.tensors(self.preprocessing)
        return rank(self.traced, method, self.grams, images=images, labels=split.labels, module=module)

    @cached_property
    def reconstructor(self) -> Reconstructor | None:
        """The least-squares repair, if the settings want it."""
        from amc_mobile.prune.reconstruct import Reconstructor

        settings = self.config.prune
        return Reconstructor(self.traced, self.grams, settings.ridge, self.ranking) if settings.reconstruct else None

    @cached_property
    def pruner(self) -> Pruner:
        """From a policy to the pruned and repaired graph."""
        from amc_mobile.prune.pruner import Pruner

        return Pruner(self.traced, self.ranking, self.reconstructor)

    def final(self, policy: Policy, progress: Progress | None = None) -> onnx.ModelProto:
        """The pruned network as it ships without training: with `final_weights`, or with zeros."""
        if self.fine_grained:
            return self.sparse.prune(policy, self.sparse_weights(policy, progress))
        channels = self.pruner.channels(policy)
        return self.traced.slice(channels, self.final_weights(channels, progress))

    def final_weights(self, channels: Channels, progress: Progress | None = None) -> Weights | None:
        """Repaired weights, refreshed on the pruned network if the settings want it; None without any repair."""
        if self.reconstructor is None:
            return None
        if not self.config.prune.refresh:
            return self.reconstructor.weights(channels)
        key = b"|".join(stay.tobytes() for stay in channels)
        if key not in self._refreshed:
            self._refreshed[key] = self._refresh(channels, self.reconstructor.weights(channels), progress)
        return self._refreshed[key]

    def sparse_weights(self, policy: Policy, progress: Progress | None = None) -> Weights:
        """The weights with zeros as they ship without training: repaired and refreshed as `final_weights`."""
        from amc_mobile.graph.traced import first_channels

        masks, settings = self.sparse.masks(policy), self.config.prune
        if not (settings.reconstruct and settings.refresh):
            return self.sparse.weights(masks)
        key = bytes(repr(policy.kept), "ascii")
        if key not in self._refreshed:
            whole = first_channels(self.traced.network.full())
            self._refreshed[key] = self._refresh(whole, self.sparse.weights(masks), progress, masks)
        return self._refreshed[key]

    def _refresh(
        self, channels: Channels, weights: Weights, progress: Progress | None, masks: Masks | None = None
    ) -> Weights:
        from amc_mobile.prune.refresh import refresh

        settings = self.config.prune
        return refresh(
            self.traced,
            channels,
            weights,
            self.splits.calibration.shuffled(self.config.seed).tensors(self.preprocessing),
            points_per_image=settings.points_per_image,
            ridge=settings.ridge,
            seed=self.config.seed,
            threads=self.threads,
            progress=progress,
            distance=self.task.distance,
            masks=masks,
        )

    def weight_ranking(self, progress: Progress | None = None) -> WeightRanking:
        """The weights of every layer, from most to least important: ranked once, then read from ranking.npz.

        Where nothing is repaired, what a repair could not mend says little: then by activation.
        """
        from amc_mobile.prune.ranking_file import load_ranking, save_ranking
        from amc_mobile.prune.weight_ranking import rank_weights

        settings, traced = self.config.prune, self.traced
        unrepaired = settings.importance == "reconstruction" and not settings.reconstruct
        method = "activation" if unrepaired else settings.importance
        sizes = {layer.weight: traced.weight(layer.weight).size for layer in traced.network.layers}
        found = load_ranking(self.folder.ranking, f"weights.{method}", list(sizes.values()), traced.network.name)
        if found is not None:
            return dict(zip(sizes, found, strict=True))
        ranking = rank_weights(
            traced, method, None if method == "l1" else self.grams, threads=self.threads, progress=progress
        )
        save_ranking(self.folder.ranking, f"weights.{method}", [ranking[weight] for weight in sizes])
        return ranking

    @cached_property
    def sparse(self) -> SparsePruner:
        """From a policy of the sparse view to the network with zeros, repaired if the settings want it."""
        from amc_mobile.prune.sparse import SparsePruner
        from amc_mobile.prune.sparse_repair import SparseReconstructor

        settings = self.config.prune
        repair = SparseReconstructor(self.traced, self.grams, settings.ridge) if settings.reconstruct else None
        return SparsePruner(self.traced, self.weight_ranking(), repair)

    @property
    def fine_grained(self) -> bool:
        """Whether single weights become zero, instead of channels being removed."""
        return self.config.search.granularity == "weight"

    @cached_property
    def _sparse_network(self) -> NetworkGraph:
        from amc_mobile.prune.sparse import sparse_view

        return sparse_view(self.traced.network)

    @property
    def network(self) -> NetworkGraph:
        """What the search decides about: channel groups, or the weights of every layer."""
        return self._sparse_network if self.fine_grained else self.traced.network

    def evaluator(self, part: Literal["search", "test"]) -> BatchEvaluator:
        """Scores networks on the search images, beside the original's own answers, or on the test images.

        The search runs on what `search.evaluator` says. What torch does not know, ONNX Runtime runs, unless torch was
        asked for by name.
        """
        from amc_mobile.models.evaluation import open_evaluator

        split = self.splits.search if part == "search" else self.splits.test
        images, labels, judge = split.tensors(self.preprocessing), split.labels, self.task.judge
        if part == "test":
            return open_evaluator(images, labels, self.threads, name="onnxruntime", judge=judge)
        name = self.config.search.evaluator
        try:
            first = open_evaluator(images, labels, self.threads, name=name, judge=judge)
            reference = first.logits(self.original_onnx)
        except GraphError as error:
            if name != "auto":
                raise
            note(f"ONNX Runtime evaluates, on the CPU: {error}")
            name = "onnxruntime"
            first = open_evaluator(images, labels, self.threads, name=name, judge=judge)
            reference = first.logits(self.original_onnx)
        return open_evaluator(images, labels, self.threads, reference, name, judge)

    @property
    def model_sha256(self) -> str:
        """The identity of the exported network, to which a latency table is bound."""
        return str(read_json(self.folder.graph)["model_sha256"])

    def table(self) -> LatencyTable | None:
        """The latency table, if this run has one."""
        from amc_mobile.cost.table import LatencyTable

        return LatencyTable.load(self.folder.table) if self.folder.table.is_file() else None

    def policy(self) -> Policy:
        """The widths that were decided."""
        from amc_mobile.types import Policy

        return Policy(tuple(read_json(self.folder.require(self.folder.policy, "prune"))["kept"]))


def read_onnx(path: Path) -> onnx.ModelProto:
    """The network in an ONNX file. Raises: DataError or GraphError in one line."""
    from amc_mobile.errors import DataError
    from amc_mobile.graph.trace import load

    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; give the path of an ONNX file") from error
    return load(data, str(path))

"""The stages that decide and cut: the search, the pruned and repaired network, its fine-tuning, the file that ships."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amc_mobile.cli import bare_onnx
from amc_mobile.cli.originals import check_parity
from amc_mobile.runs import read_json, write_bytes
from amc_mobile.types import Budget, Metric, Policy

if TYPE_CHECKING:
    from torch import nn

    from amc_mobile.cli.session import Session
    from amc_mobile.config import BudgetConfig
    from amc_mobile.device.protocol import Progress
    from amc_mobile.graph.traced import Channels

_METRICS: dict[str, Metric] = {"latency": "latency_us", "macs": "macs", "params": "params", "bytes": "bytes"}


def metric_of(config: BudgetConfig) -> tuple[Metric, float]:
    """Which cost is limited, and to which fraction of the original's."""
    name, fraction = next((name, value) for name, value in config if value is not None)
    return _METRICS[name], fraction


def budget(session: Session) -> Budget:
    """The limit in the metric's own unit: a share of what the original costs, for latency by the clock."""
    from amc_mobile.cost.price import cost_function
    from amc_mobile.profile.predict import original_us

    metric, fraction = metric_of(session.config.budget)
    network, table = session.traced.network, session.table()
    if metric == "latency_us" and table is not None:
        return Budget(metric, fraction * original_us(table, network))
    return Budget(metric, fraction * cost_function(network, metric, table)(network.full().kept))


def search(session: Session, progress: Progress) -> None:
    """trials.jsonl and search.json: the policy that keeps the budgets and the accuracy."""
    from amc_mobile.search.evaluator import PrunedEvaluator
    from amc_mobile.search.run import search as run_search

    evaluator = PrunedEvaluator(session.pruner, session.evaluator("search"))
    table = session.table()
    run_search(
        session.traced.network,
        {} if table is None else {"": table},
        evaluator,
        session.config.search,
        [budget(session)],
        seed=session.config.seed,
        folder=session.folder,
        progress=progress,
        context={"model": session.model_sha256},
    )


def prune(session: Session, progress: Progress) -> None:
    """policy.json: the widths, and the channels that stay in every group; weights.pt, repaired by least squares.

    A network that is only an ONNX file has no weights.pt: its weights are in model.onnx alone.
    """
    from amc_mobile.prune.saved import save, save_policy

    policy = Policy(tuple(read_json(session.folder.search)["best"]["kept"]))
    channels = session.pruner.channels(policy)
    if session.config.model.onnx is not None:
        save_policy(session.folder, session.entry, session.traced, channels)
        return
    save(session.folder, _repaired(session, channels), session.entry, session.traced, channels)


def finetune(session: Session, progress: Progress) -> None:
    """weights.pt: trained from the repaired network on, with the original as a teacher; without epochs as it is."""
    from amc_mobile.prune.saved import save
    from amc_mobile.train.fit import fit

    config, folder = session.config, session.folder
    if config.model.onnx is not None:
        return
    channels = session.pruner.channels(session.policy())
    module = _repaired(session, channels)
    if config.finetune.epochs > 0:
        split = session.splits.train
        module = fit(
            module,
            split.tensors(session.preprocessing),
            split.labels,
            config.finetune,
            seed=config.seed,
            teacher=session.original,
            progress=progress,
            checkpoint=folder.root / "finetune.partial",
        )
    save(folder, module, session.entry, session.traced, channels)


def export(session: Session, progress: Progress) -> None:
    """model.onnx: the slice of the one graph with the weights that ship, checked against the module if there is one."""
    from amc_mobile.export.weights import folded_weights
    from amc_mobile.prune.saved import load

    policy = session.policy()
    model = session.pruner.prune(policy)  # without training: the very network that the search judged
    if session.config.model.onnx is not None:
        bare_onnx.check_slice(session, session.pruner.channels(policy))
        write_bytes(session.folder.model_onnx, model.SerializeToString())
        return
    module = load(session.folder.root)
    if session.config.finetune.epochs > 0:
        weights = folded_weights(module, model)
        model = session.traced.slice(session.pruner.channels(policy), weights)
    check_parity(session, "pruned", module, model)
    write_bytes(session.folder.model_onnx, model.SerializeToString())


def _repaired(session: Session, channels: Channels) -> nn.Module:
    from amc_mobile.prune.module import assign, slice_module

    module = slice_module(session.original, session.traced, channels)
    if session.reconstructor is not None:
        assign(module, session.reconstructor.weights(channels), session.traced)
    return module

"""The stages that decide and cut: the search, the pruned and repaired network, its fine-tuning, the file that ships."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amc_mobile.cli import bare_onnx
from amc_mobile.cli.budgets import budgets, search_settings, tables
from amc_mobile.cli.explaining import decide, front_of
from amc_mobile.cli.originals import check_parity
from amc_mobile.runs import write_bytes, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from amc_mobile.cli.session import Session
    from amc_mobile.device.protocol import Progress
    from amc_mobile.graph.traced import Channels
    from amc_mobile.runs import RunFolder
    from amc_mobile.search.agents import Agent


def search(session: Session, progress: Progress) -> None:
    """trials.jsonl and search.json: the policy that keeps the budgets and the accuracy."""
    search_on(session, progress, session.folder)
    write_front(session)


def search_on(
    session: Session,
    progress: Progress,
    folder: RunFolder,
    *,
    context: Mapping[str, str] | None = None,
    agent: Agent | None = None,
) -> None:
    """The search of this run, in a folder; by another agent, under a further name, where it is finished again."""
    from amc_mobile.search.evaluator import PrunedEvaluator
    from amc_mobile.search.run import search as run_search

    if session.fine_grained:
        session.weight_ranking(progress)  # read, or made now: this may take minutes
    pruner = session.sparse if session.fine_grained else session.pruner
    evaluator = PrunedEvaluator(pruner, session.evaluator("search"), session.config.search.reward)
    run_search(
        session.network,
        tables(session),
        evaluator,
        search_settings(session.config),
        budgets(session),
        seed=session.config.seed,
        folder=folder,
        progress=progress,
        context={"model": session.model_sha256, **(context or {})},
        agent=agent,
    )


def write_front(session: Session) -> None:
    """pareto.json: the trials that no other beats."""
    write_json(session.folder.pareto, front_of(session.folder, session.config))


def prune(session: Session, progress: Progress) -> None:
    """policy.json: the widths, and the channels that stay in every group; weights.pt, repaired as it ships.

    A network that is only an ONNX file has no weights.pt: its weights are in model.onnx alone.
    """
    from amc_mobile.prune.saved import save, save_policy

    channels = session.pruner.channels(decide(session))
    if session.config.model.onnx is not None:
        save_policy(session.folder, session.entry, session.traced.network, channels)
        return
    save(session.folder, repaired(session, channels, progress), session.entry, session.traced.network, channels)


def finetune(session: Session, progress: Progress) -> None:
    """weights.pt: trained from the repaired network on, with the original as a teacher; without epochs as it is."""
    from amc_mobile.cli.training import trained
    from amc_mobile.prune.saved import save

    if session.config.model.onnx is not None:
        return
    channels = session.pruner.channels(session.policy())
    module = trained(session, repaired(session, channels, progress), progress)
    save(session.folder, module, session.entry, session.traced.network, channels)


def export(session: Session, progress: Progress) -> None:
    """model.onnx: the slice of the one graph with the weights that ship, checked against the module if there is one."""
    from amc_mobile.export.weights import folded_weights
    from amc_mobile.prune.saved import load

    policy = session.policy()
    model = session.final(policy, progress)
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


def repaired(session: Session, channels: Channels, progress: Progress) -> nn.Module:
    """The original's module cut to these channels, repaired as the settings say."""
    from amc_mobile.prune.module import assign, slice_module

    module = slice_module(session.original, session.traced, channels)
    weights = session.final_weights(channels, progress)
    if weights is not None:
        assign(module, weights, session.traced)
    return module

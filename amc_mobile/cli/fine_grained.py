"""The stages of fine-grained pruning, where they differ: the network keeps its size, single weights become zero.

policy.json then says how many weights every layer keeps (in units of one kernel), weights.pt and model.onnx are of the
full size with zeros. MACs and parameters count what is not zero; ONNX Runtime computes with the zeros all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from amc_mobile.cli.explaining import decide
from amc_mobile.cli.originals import check_parity, save_weights
from amc_mobile.errors import ConfigError
from amc_mobile.runs import write_bytes, write_json

if TYPE_CHECKING:
    from torch import nn

    from amc_mobile.cli.session import Session
    from amc_mobile.config import RunConfig
    from amc_mobile.device.protocol import Progress
    from amc_mobile.prune.sparse_module import ZeroKeeper
    from amc_mobile.types import Policy


def check(config: RunConfig) -> None:
    """Raises: ConfigError for a limit that zeros cannot keep, or an importance that only channels have."""
    if config.search.granularity != "weight":
        return
    unkept = config.budget.latency is not None or config.budget.memory is not None or config.budget.also
    if unkept or not config.budget.limits():
        raise ConfigError(
            "single zeros make ONNX Runtime neither faster nor its activations smaller: with search.granularity "
            "'weight' limit --params, --macs or --bytes (of what is not zero)"
        )
    from amc_mobile.prune.weight_ranking import check_method

    check_method(config.prune.importance)


def prune(session: Session, progress: Progress) -> None:
    """policy.json: how many weights every layer keeps; weights.pt, with zeros, where there is a module."""
    from amc_mobile.prune.saved import described

    network, policy = session.network, decide(session)
    groups = [
        {"name": group.name, "channels": group.channels, "kept": kept}
        for group, kept in zip(network.groups, policy.kept, strict=True)
    ]
    own = {"granularity": "weight", "kept": policy.kept, "groups": groups, "pads": {}}
    write_json(session.folder.policy, described(session.entry) | own)
    if session.config.model.onnx is None:
        save_weights(session.folder.weights, _sparse(session, policy, progress)[0])


def finetune(session: Session, progress: Progress) -> None:
    """weights.pt: trained with the zeros kept; without epochs as it is."""
    from amc_mobile.cli.training import trained

    if session.config.model.onnx is not None:
        return
    module, keep_zeros = _sparse(session, session.policy(), progress)
    save_weights(session.folder.weights, trained(session, module, progress, after_step=keep_zeros))


def export(session: Session, progress: Progress) -> None:
    """model.onnx: the full-size graph with zeros and the weights that ship, checked against PyTorch if it can be."""
    from amc_mobile.export.from_onnx import answer_shape
    from amc_mobile.export.weights import folded_weights
    from amc_mobile.graph.traced import first_channels
    from amc_mobile.models.zoo import load_module

    policy = session.policy()
    if session.config.model.onnx is not None:
        model = session.final(policy, progress)
        answer_shape(model, session.entry.input_shape)
    else:
        module = load_module(session.entry, session.folder.require(session.folder.weights, "prune"))
        if session.config.finetune.epochs > 0:
            whole = first_channels(session.traced.network.full())
            model = session.traced.slice(whole, folded_weights(module, session.traced.model))
        else:
            model = session.final(policy, progress)
        check_parity(session, "pruned", module, model)
    write_bytes(session.folder.model_onnx, model.SerializeToString())


def _sparse(session: Session, policy: Policy, progress: Progress) -> tuple[nn.Module, ZeroKeeper]:
    from amc_mobile.prune.sparse_module import sparse_module

    return sparse_module(session.original, session.sparse, policy, session.sparse_weights(policy, progress))

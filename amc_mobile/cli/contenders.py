"""The networks of a transfer as they are before they see the other images: the pruned one, and its opponents.

"original" is the run's unpruned network; "uniform" the policy that gives every group the same share of the same budget,
repaired (and fine-tuned on the run's images) like the pruned network was; "scratch" the pruned shape with random
weights.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np

from amc_mobile.cli.console import progress_line
from amc_mobile.cli.inputs import content
from amc_mobile.cli.judgement import uniform_policy
from amc_mobile.cli.originals import save_weights
from amc_mobile.errors import ConfigError, RunFolderError
from amc_mobile.runs import read_json

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from amc_mobile.cli.session import Session
    from amc_mobile.config import ContenderName, RunConfig, TransferConfig
    from amc_mobile.graph.traced import Channels
    from amc_mobile.types import Policy


def check_run(config: RunConfig) -> None:
    """Raises: ConfigError for a run whose pruned network is no smaller module that could be trained."""
    if config.model.onnx is not None:
        raise ConfigError(
            f"{config.out} was made from {config.model.name}, an ONNX file without a PyTorch module to train; make a "
            "run with `amc search --model package.module:function`"
        )
    if config.model.purpose == "detection":
        raise ConfigError(f"{config.out} is of a detector, and only classifiers are transferred; name another run")
    if config.search.granularity == "weight":
        raise ConfigError(
            f"{config.out} has single weights pruned (search.granularity 'weight'), which leaves the network its size; "
            "make a run with `amc search --granularity channel`"
        )


def check_opponents(session: Session, config: TransferConfig) -> None:
    """Raises: ConfigError if the run knows no uniform policy, or its pruned network is one itself."""
    if "uniform" not in config.against or uniform_policy(session) is not None:
        return
    agent = read_json(session.folder.search)["best"]["agent"]
    reason = "the pruned network is the uniform one" if agent == "uniform" else "its search had no uniform opponent"
    raise ConfigError(
        f"{session.folder.root} has nothing uniform to compare with ({reason}); leave it out of --against"
    )


def channels_of(session: Session, name: ContenderName) -> Channels:
    """The channels of every group that the contender has."""
    from amc_mobile.graph.traced import first_channels

    if name == "original":
        return first_channels(session.traced.network.full())
    if name == "uniform":
        return session.pruner.channels(_uniform(session))
    groups = read_json(session.folder.require(session.folder.policy, "prune"))["groups"]
    return tuple(np.asarray(group["positions"], np.int64) for group in groups)


def module_of(session: Session, name: ContenderName, made: Path, seed: int) -> nn.Module:
    """The contender with the classifier of the run. `made` is where the uniform network is kept once it was made."""
    from amc_mobile.prune.saved import load

    if name == "pruned":
        return load(session.folder.root)
    if name == "original":
        return copy.deepcopy(session.original)
    return _uniform_module(session, made) if name == "uniform" else _random_module(session, seed)


def sources(session: Session, name: ContenderName) -> dict[str, object]:
    """What the contender is made from: with other sources, what was trained before counts no more."""
    folder, settings = session.folder, session.config.model_dump(mode="json")
    if name == "uniform":
        made = {key: settings[key] for key in ("data", "finetune", "seed")}
        made["prune"] = {key: value for key, value in settings["prune"].items() if key != "point"}
        made |= {"mean": session.preprocessing.mean, "std": session.preprocessing.std}
        return made | {"kept": _uniform(session).kept, "original": content(folder.original_weights)}
    files = {
        "pruned": (folder.policy, folder.weights),
        "original": (folder.original_weights,),
        "scratch": (folder.policy,),
    }[name]
    return {path.name: content(path) for path in files}


def _uniform(session: Session) -> Policy:
    policy = uniform_policy(session)
    if policy is None:
        raise RunFolderError(f"{session.folder.search} knows no uniform opponent any more; leave it out of --against")
    return policy


def _uniform_module(session: Session, made: Path) -> nn.Module:
    """As the pruned network was made, with other widths. It takes a while: a file keeps it for the next seed."""
    from amc_mobile.cli.decisions import repaired
    from amc_mobile.cli.training import trained
    from amc_mobile.models.weights import load_weights
    from amc_mobile.prune.module import slice_module

    channels = channels_of(session, "uniform")
    if made.is_file():
        module = slice_module(session.original, session.traced, channels)
        load_weights(module, made, "the uniform network")
        return module.eval()
    made.parent.mkdir(exist_ok=True)
    with progress_line("uniform") as progress:
        module = repaired(session, channels, progress)
        partial = made.with_suffix(".partial")
        module = trained(session, module, progress, checkpoint=partial)
        save_weights(made, module)
        partial.unlink(missing_ok=True)
    return module.eval()


def _random_module(session: Session, seed: int) -> nn.Module:
    """The pruned shape, with weights drawn as the network's own code draws them.

    Raises: ConfigError if that code loads weights instead.
    """
    import torch

    from amc_mobile.models.zoo import find
    from amc_mobile.prune.module import cut

    with torch.random.fork_rng(devices=[]):
        built = []
        for each in (seed + 1, seed):
            torch.manual_seed(each)
            built.append(find(session.config.model.name).build())
    other, module = built
    pairs = [pair for pair in zip(module.parameters(), other.parameters(), strict=True) if pair[0].ndim > 1]
    same = [torch.equal(*pair) for pair in pairs if pair[0].min() < pair[0].max()]
    if 2 * sum(same) > len(same):
        raise ConfigError(
            f"the code of {session.config.model.name} loads its weights (they are the same under two seeds), so that "
            "nothing of it is random; leave scratch out of --against"
        )
    channels = channels_of(session, "scratch")
    cut(module, session.traced, channels, session.traced.slice(channels))
    return module.eval()

"""The stages that lay the ground: the trained network, its one ONNX graph, the latency table, the calibration."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from amc_mobile.cli.console import note
from amc_mobile.cli.measuring import measure_table
from amc_mobile.cli.training import from_scratch
from amc_mobile.errors import GraphError
from amc_mobile.runs import read_json, write_bytes, write_json

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from torch import nn

    from amc_mobile.cli.session import Session
    from amc_mobile.device.protocol import Progress
    from amc_mobile.runs import RunFolder

PARITY = 1e-4  # largest difference of logits between PyTorch and ONNX Runtime, relative to the largest logit
_PARITY_IMAGES = 8


def train(session: Session, progress: Progress) -> None:
    """original.pt: the weights given, or trained from scratch as the settings say, then with train.json."""
    from amc_mobile.models.zoo import load_module

    config, folder = session.config, session.folder
    module = load_module(session.entry, config.model.weights)
    session.splits  # noqa: B018 - wrong images are told now rather than after minutes of measuring
    if config.model.weights is None:
        if config.training.epochs:
            module = from_scratch(session, module, progress)
        else:
            note(f"no weights are given for {config.model.name}: it is taken as it is built (train.epochs trains it)")
    elif config.train.epochs:
        note(f"     train  the weights are given: {config.model.weights} is taken, nothing is trained")
    save_weights(folder.original_weights, module)


def export(session: Session, progress: Progress) -> None:
    """original.onnx and graph.json: the network as one graph, and what can be pruned in it."""
    from amc_mobile.export.to_onnx import export as to_onnx
    from amc_mobile.profile.identity import structure_sha256
    from amc_mobile.prune.stubborn import pin_stubborn

    folder, entry = session.folder, session.entry
    model = to_onnx(session.original, entry.input_shape)
    check_parity(session, "original", session.original, model)
    model = pin_stubborn(session.original, model)
    write_bytes(folder.original_onnx, model.SerializeToString())
    write_json(folder.graph, {"network": session.network, "model_sha256": structure_sha256(model)})


def profile(session: Session, progress: Progress) -> None:
    """table.json and table.csv: measured on the device, or a table of the same device and network taken over."""
    from amc_mobile.cost.table import LatencyTable

    config, folder = session.config, session.folder
    if config.profile.table is None:
        measure_table(session.traced, session.device, config, folder.table, profile_checkpoint(folder), progress)
        return
    table = LatencyTable.load(config.profile.table)
    here = table.device if config.profile.elsewhere else session.device.info()
    table.require(here, session.model_sha256)
    if config.profile.elsewhere:
        note(f"   profile  the table is of another device, {table.device.model}: what is found is for that one")
    table.refuse(config.profile.max_error, force=config.profile.force)
    table.save(folder.table)


def profile_checkpoint(folder: RunFolder) -> Path:
    """Where measurements pile up while the device is profiled."""
    return folder.root / "profile.partial"


def calibrate(session: Session, progress: Progress) -> None:
    """gram.npz: second moments of layers' inputs on the calibration images; ranking.npz: what is cut, in which order.

    Ranked here and saved, so that no later process does it again.
    """
    from amc_mobile.prune.gram import collect

    config = session.config
    images = session.splits.calibration.tensors(session.preprocessing)
    points = config.prune.points_per_image
    grams = collect(
        session.traced,
        images,
        points,
        seed=config.seed,
        threads=session.threads,
        progress=progress,
        every=session.fine_grained,
    )
    grams.save(session.folder.gram)
    if session.fine_grained:
        session.weight_ranking(progress)
        return
    progress(len(images), len(images), "ranking the channels")
    session.ranking  # noqa: B018 - a property that saves what it finds


def save_weights(path: Path, module: nn.Module) -> None:
    """Writes a state_dict, all or nothing."""
    import torch

    stream = io.BytesIO()
    torch.save(module.state_dict(), stream)
    write_bytes(path, stream.getvalue())


def check_parity(session: Session, which: str, module: nn.Module, model: onnx.ModelProto) -> None:
    """Notes in parity.json how far PyTorch and ONNX Runtime differ. Raises: GraphError if it is too far."""
    from amc_mobile.export.to_onnx import parity

    difference = parity(module, model, sample_images(session))
    note_parity(session, which, difference)
    if difference > PARITY:
        raise GraphError(
            f"the exported {which} network differs from PyTorch by {difference:.1e} of the largest logit; "
            "check that it has no random or training-only step in eval mode"
        )


def sample_images(session: Session) -> np.ndarray:
    """Some calibration images on which two forms of one network are compared, float32 (N, C, H, W)."""
    split = session.splits.calibration
    return replace(split, indices=split.indices[:_PARITY_IMAGES]).tensors(session.preprocessing)


def note_parity(session: Session, which: str, difference: float) -> None:
    """Writes into parity.json how far two forms of a network differ, relative to the largest logit."""
    path = session.folder.parity
    write_json(path, (read_json(path) if path.is_file() else {}) | {which: difference})

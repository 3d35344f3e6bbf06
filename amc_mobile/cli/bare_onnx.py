"""The stages of a network that is only an ONNX file, where they differ: no module, so no weights.pt and no training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amc_mobile.cli.console import note
from amc_mobile.cli.originals import PARITY, note_parity, sample_images
from amc_mobile.errors import GraphError
from amc_mobile.runs import write_bytes, write_json

if TYPE_CHECKING:
    from amc_mobile.cli.session import Session
    from amc_mobile.device.protocol import Progress
    from amc_mobile.graph.traced import Channels


def read(session: Session, progress: Progress) -> None:
    """original.onnx: the file as the one graph of this run, batch normalisations folded."""
    from amc_mobile.cli.session import read_onnx
    from amc_mobile.export.from_onnx import adopt, difference

    assert session.config.model.onnx is not None  # noqa: S101 - the pipeline asks
    given = read_onnx(session.config.model.onnx)
    write_bytes(session.folder.original_onnx, adopt(given).SerializeToString())
    gap = difference(given, session.original_onnx, sample_images(session))
    note_parity(session, "original", gap)
    if gap > PARITY:
        raise GraphError(
            f"{session.entry.name} answers differently once its constants are folded, by {gap:.1e} of the largest "
            "logit; check that it has no random or training-only step"
        )
    note(_in_words(session))


def trace(session: Session, progress: Progress) -> None:
    """graph.json: what can be pruned in it."""
    from amc_mobile.profile.identity import structure_sha256

    sha256 = structure_sha256(session.original_onnx)
    write_json(session.folder.graph, {"network": session.network, "model_sha256": sha256})


def check_slice(session: Session, channels: Channels) -> None:
    """Notes in parity.json how far the slice is from the full-size network in which nobody hears the pruned channels.

    Without a module there is nothing else to hold the sliced graph against. Raises: GraphError if it is too far.
    """
    from amc_mobile.export.from_onnx import difference

    traced = session.traced
    gap = difference(traced.mask(channels), traced.slice(channels), sample_images(session))
    note_parity(session, "pruned", gap)
    if gap > PARITY:
        raise GraphError(
            f"the pruned {session.entry.name} differs from the masked one by {gap:.1e} of the largest logit; "
            "please report this with the file"
        )


def _in_words(session: Session) -> str:
    """How good the file is as it is read: a wrong normalisation shows here, before anything costs time."""
    score = session.evaluator("search").score(session.original_onnx)
    model = session.config.model
    how = f"mean {list(session.preprocessing.mean)}, std {list(session.preprocessing.std)}"
    unset = "" if model.mean and model.std else "; model.mean and model.std (--mean, --std) are not set: if it should "
    advice = f"{unset}be better, give those it was trained with" if unset else ""
    return (
        f"{session.entry.name} answers {score.accuracy():.1%} of {score.images} search images right, "
        f"reading pixels of 0..1 with {how}{advice}"
    )

"""The stage that writes original and pruned network in int8, each calibrated on itself with images of the run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from amc_mobile.cli.console import note
from amc_mobile.errors import GraphError
from amc_mobile.runs import read_json, write_bytes, write_json

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

    from amc_mobile.cli.session import Session
    from amc_mobile.config import RunConfig
    from amc_mobile.device.protocol import Progress
    from amc_mobile.runs import RunFolder

_SCHEMA = 1


def quantise(session: Session, progress: Progress) -> None:
    """original.int8.onnx and model.int8.onnx, and int8.json, which says how, or why there are none.

    Raises: GraphError for a network that cannot be quantised, if that is what the run is for.
    """
    folder, config = session.folder, session.config
    failed = ""
    for path in (folder.original_int8, folder.model_int8):
        path.unlink(missing_ok=True)
    if config.quantises:
        try:
            _write(session, folder.original_onnx, folder.original_int8, progress)
            _write(session, folder.model_onnx, folder.model_int8, progress)
        except GraphError as error:
            if config.device.precision == "int8":
                raise
            failed = str(error)
            note(f"  quantise  {failed}")
            folder.original_int8.unlink(missing_ok=True)
    _write_record(session, failed)


def _write(session: Session, source: Path, target: Path, progress: Progress) -> None:
    from amc_mobile.cli.session import read_onnx
    from amc_mobile.export.from_onnx import answer_shape

    model = in_int8(session, read_onnx(session.folder.require(source, "export")), progress)
    answer_shape(model, session.entry.input_shape)  # it runs
    write_bytes(target, model.SerializeToString())


def _write_record(session: Session, failed: str) -> None:
    from amc_mobile.export.quantise import WEIGHT_BITS

    config = session.config
    content = {
        "schema": _SCHEMA,
        "made": config.quantises and not failed,
        "failed": failed,
        "method": config.int8.method,
        "images": _count(config),
        "weight_bits": WEIGHT_BITS,
    }
    write_json(session.folder.int8, content)


def in_int8(session: Session, model: onnx.ModelProto, progress: Progress | None = None) -> onnx.ModelProto:
    """Any network of this run in int8, as the run's own are. Raises: GraphError."""
    from amc_mobile.export.quantise import in_int8 as quantised

    split = session.splits.calibration
    chosen = (
        np.linspace(0, len(split) - 1, _count(session.config)).round().astype(int)
    )  # the indices may be sorted by class
    images = replace(split, indices=split.indices[chosen]).tensors(session.preprocessing)
    return quantised(model, images, session.config.int8.method, session.threads, progress)


def outputs(folder: RunFolder) -> tuple[Path, ...]:
    """What the stage left: two networks, unless they were not wanted or could not be quantised."""
    if folder.int8.is_file() and not read_json(folder.int8)["made"]:
        return (folder.int8,)
    return folder.int8, folder.original_int8, folder.model_int8


def why_not(folder: RunFolder) -> str:
    """Why there are no networks in int8, though they were asked for; empty if there are or they were not."""
    return str(read_json(folder.int8)["failed"]) if folder.int8.is_file() else ""


def _count(config: RunConfig) -> int:
    return min(config.int8.calibration_images, config.data.calibration_images)

"""Rankings on disk: one .npz with the orders of every method that was asked for, so that no process ranks twice.

A ranking of channels has an order for every group, one of single weights an order for every weight.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from amc_mobile.errors import RunFolderError
from amc_mobile.runs import write_bytes

SCHEMA = 1

Order = NDArray[np.int64]  # from most to least important


def save_ranking(path: Path, method: str, ranking: Sequence[Order]) -> None:
    """Adds a method's ranking to the file, all or nothing; other methods' rankings stay. Raises: RunFolderError."""
    arrays = _read(path) if path.is_file() else {"schema": np.array(SCHEMA)}
    arrays[f"{method}.lengths"] = np.array([len(order) for order in ranking], np.int64)
    arrays[f"{method}.orders"] = np.concatenate(ranking).astype(np.int32)
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    write_bytes(path, stream.getvalue())


def load_ranking(path: Path, method: str, sizes: Sequence[int], network: str) -> tuple[Order, ...] | None:
    """The method's ranking of so many things each, or None if the file has none.

    Raises: RunFolderError if the file is damaged or of another network.
    """
    arrays = _read(path) if path.is_file() else {}
    if f"{method}.orders" not in arrays:
        return None
    lengths = arrays[f"{method}.lengths"]
    ranking = tuple(np.split(arrays[f"{method}.orders"].astype(np.int64), np.cumsum(lengths)[:-1]))
    if lengths.tolist() != list(sizes) or any(
        not np.array_equal(np.sort(order), np.arange(size)) for order, size in zip(ranking, sizes, strict=True)
    ):
        raise RunFolderError(f"{path} does not fit {network}; delete it and run the stage again")
    return ranking


def _read(path: Path) -> dict[str, Order]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: np.asarray(stored[name]) for name in stored.files}
        if int(arrays["schema"]) != SCHEMA:
            raise ValueError(f"schema {int(arrays['schema'])}, expected {SCHEMA}")
    except OSError as error:
        raise RunFolderError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise RunFolderError(f"{path} is damaged ({error}); delete it and run the stage again") from error
    return arrays

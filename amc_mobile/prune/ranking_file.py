"""Rankings on disk: one .npz with the orders of every method that was asked for, so that no process ranks twice."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from amc_mobile.errors import RunFolderError
from amc_mobile.prune.importance import Method, Ranking
from amc_mobile.runs import write_bytes
from amc_mobile.types import NetworkGraph

SCHEMA = 1


def save_ranking(path: Path, method: Method, ranking: Ranking) -> None:
    """Adds a method's ranking to the file, all or nothing; other methods' rankings stay. Raises: RunFolderError."""
    arrays = _read(path) if path.is_file() else {"schema": np.array(SCHEMA)}
    orders = [np.asarray(order, np.int64) for order in ranking]
    arrays[f"{method}.lengths"] = np.array([len(order) for order in orders], np.int64)
    arrays[f"{method}.orders"] = np.concatenate(orders)
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    write_bytes(path, stream.getvalue())


def load_ranking(path: Path, method: Method, network: NetworkGraph) -> Ranking | None:
    """The method's ranking, or None if the file has none.

    Raises: RunFolderError if the file is damaged or of another network.
    """
    arrays = _read(path) if path.is_file() else {}
    if f"{method}.orders" not in arrays:
        return None
    lengths = arrays[f"{method}.lengths"]
    ranking = tuple(np.split(arrays[f"{method}.orders"], np.cumsum(lengths)[:-1]))
    sizes = [group.channels for group in network.groups]
    if lengths.tolist() != sizes or any(
        not np.array_equal(np.sort(order), np.arange(size)) for order, size in zip(ranking, sizes, strict=True)
    ):
        raise RunFolderError(f"{path} does not fit {network.name}; delete it and run the stage again")
    return ranking


def _read(path: Path) -> dict[str, NDArray[np.int64]]:
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

"""One process at a time in a run folder. The lock dies with its process, so a killed run leaves nothing to clean up."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from amc_mobile.errors import RunFolderError


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the folder for this process. Raises: RunFolderError if another process holds it."""
    path = folder / ".lock"
    try:
        stream = path.open("a+")
    except OSError as error:
        raise RunFolderError(f"cannot write {path}: {error.strerror}; choose another folder with --out DIR") from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            stream.seek(0)
            holder = stream.read().strip() or "unknown"
            raise RunFolderError(
                f"another amc (process {holder}) is at work in {folder}; wait for it, or choose another --out"
            ) from error
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        yield

"""Folders that are made once and kept, in the user's cache: whole or not there, also when two processes make one."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from amc_mobile.errors import DeviceError

_SUMS = "SHA256SUMS"


def default_cache() -> Path:
    """Where this user's programs keep what they can make again (XDG base directories)."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    home = Path(named) if named and Path(named).is_absolute() else Path.home() / ".cache"
    return home / "amc-mobile"


def kept(cache: Path, name: str, make: Callable[[Path], None]) -> Path:
    """The folder `name` of the cache; `make` fills it where it is not there or damaged.

    Raises: DeviceError if the cache cannot be written.
    """
    place = cache / name
    if intact(place):
        return place
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=cache) as temporary:
            made = Path(temporary) / "made"
            made.mkdir()
            make(made)
            _seal(made)
            _put(made, place, Path(temporary) / "damaged")
    except OSError as error:
        raise DeviceError(
            f"cannot write {error.filename or cache}: {error.strerror}; free space or set XDG_CACHE_HOME"
        ) from error
    return place


def intact(place: Path) -> bool:
    """Whether a kept folder holds what was put into it."""
    try:
        return sums(place) == {file.name: _sha256(file) for file in place.iterdir() if file.name != _SUMS}
    except (OSError, ValueError):
        return False


def sums(place: Path) -> dict[str, str]:
    """SHA-256 of every file of a kept folder, by name."""
    lines = (place / _SUMS).read_text(encoding="utf-8").splitlines()
    return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}


def digest(files: dict[str, str]) -> str:
    """One SHA-256 over names and SHA-256 of files."""
    return hashlib.sha256(_lines(files).encode()).hexdigest()


def _seal(made: Path) -> None:
    text = _lines({file.name: _sha256(file) for file in made.iterdir()})
    with (made / _SUMS).open("w", encoding="utf-8") as stream:
        stream.write(text)


def _put(made: Path, place: Path, aside: Path) -> None:
    """Renames into place. Where another process was quicker, its folder stays; a damaged one makes room."""
    for _ in range(2):
        try:
            made.rename(place)
        except OSError:
            if intact(place):
                return
            shutil.rmtree(aside, ignore_errors=True)
            place.rename(aside)
        else:
            return
    raise OSError(0, "another program keeps changing it", str(place))


def _lines(files: dict[str, str]) -> str:
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(files.items()))


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

"""What the files and folders that settings name hold: finished work counts as long as that is the same.

A file is known by its content, a folder of images by the names and sizes of its files, a network's
`package.module:function` by the module's source (not by what that imports).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from types import MappingProxyType
from typing import Any

_MAY_NAME_FILES = ("model.name", "model.weights", "data.name", "data.test", "profile.table")
NOTHING: Mapping[str, str] = MappingProxyType({})


def identity(path: str, value: Any, known: Mapping[str, str] = NOTHING) -> Any:
    """What makes two values of a setting the same thing: what it names holds, else the value.

    `known` tells what a value stood for before. That counts where the file is absent, as relative paths are in another
    working folder.
    """
    if path == "budget.also":
        return [entry | {"table": identity("profile.table", entry["table"], known)} for entry in value]
    if path not in _MAY_NAME_FILES or value is None:
        return value
    return held(str(value)) or known.get(str(value), value)


def remembered(values: Mapping[str, Any]) -> dict[str, str]:
    """For every value that names a file or folder which is there: what it holds, as `identity` wants to know it."""
    named = [value for path, value in values.items() if path in _MAY_NAME_FILES and value is not None]
    named += [entry["table"] for entry in values.get("budget.also", ()) if entry["table"] is not None]
    return {str(value): found for value in named if (found := held(str(value))) is not None}


def held(value: str) -> str | None:
    """The identity of what the value names; None for what is no file, folder or module, or is not there."""
    if Path(value).is_file():
        return content(Path(value))
    kind, colon, place = value.partition(":")
    if colon and Path(place).is_dir():
        return f"{kind}:{listing(Path(place).absolute())}"
    source = _source(kind) if colon and place.isidentifier() else None
    return None if source is None else f"{content(source)}:{place}"


def content(file: Path) -> str:
    """The identity of what a file holds."""
    status = file.stat()
    return _sha256(file.absolute(), status.st_size, status.st_mtime_ns)


@cache
def _sha256(file: Path, size: int, mtime_ns: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@cache  # for one command: a large folder takes seconds
def listing(folder: Path) -> str:
    """A digest of the relative names and the sizes of all files in a folder and in those inside it."""
    digest = hashlib.sha256()
    for line in sorted(_files(folder)):
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[str]:
    """One line for each file that can be seen; a folder that links lead back to is gone through once."""
    gone_through: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(place)) in gone_through:
            folders.clear()
            continue
        gone_through.add(real)
        folders.sort()
        inside = os.path.relpath(place, folder)
        for name in names:
            with contextlib.suppress(OSError):  # a link to nowhere; who reads the images will say so
                yield f"{inside}/{name}\0{Path(place, name).stat().st_size}\n"


def _source(module: str) -> Path | None:
    """The file of a module, which is looked for as `import` does, the working folder first; nothing is imported."""
    places: list[str] | None = [str(Path.cwd()), *sys.path]
    found = None
    for part in module.split("."):
        found = PathFinder.find_spec(part, places) if places else None
        if found is None:
            return None
        places = list(found.submodule_search_locations or ())
    return Path(found.origin) if found is not None and found.has_location and found.origin else None

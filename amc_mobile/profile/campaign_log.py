"""What a measuring campaign has measured, on the disk: one line for each chunk, so that a killed campaign goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from amc_mobile.errors import RunFolderError
from amc_mobile.measurements import Conditions
from amc_mobile.profile.campaign import Chunk, Sample
from amc_mobile.profile.mapping import RowKey
from amc_mobile.runs import plain, write_text


class Log:
    """The chunks measured so far, in a file that grows by whole lines; without a path, in memory only.

    The first line says to which campaign the file belongs. A file of another campaign
    (other device, network, seed or protocol) is overwritten.
    """

    def __init__(self, path: Path | None, identity: Mapping[str, Any]) -> None:
        self.path = path
        self.chunks: list[Chunk] = []
        if path is None:
            return
        head = json.dumps(plain(dict(identity)), sort_keys=True)
        lines = _whole_lines(path)
        if lines and lines[0] == head:
            self.chunks = list(_chunks(lines[1:]))
        write_text(path, "".join(line + "\n" for line in [head, *map(_line, self.chunks)]))

    def append(self, chunk: Chunk) -> None:
        """Adds a chunk and flushes it to the disk. Raises: RunFolderError."""
        self.chunks.append(chunk)
        if self.path is None:
            return
        try:
            with self.path.open("ab") as stream:
                stream.write((_line(chunk) + "\n").encode())
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise RunFolderError(
                f"cannot write {self.path}: {error.strerror}; free some space and run again"
            ) from error


def chunk_as_plain(chunk: Chunk) -> dict[str, Any]:
    """A chunk as JSON values; the times of each turn are one string, so that a file stays readable line by line."""
    return {
        "round": chunk.round,
        "index": chunk.index,
        "conditions": plain(chunk.conditions),
        "samples": [
            {
                "label": sample.label,
                "values_us": [*map(_join, sample.values_us)],
                "warmups_us": [*map(_join, sample.warmups_us)],
                "rows_us": [[key.layer, key.node, time] for key, time in sample.rows_us.items()],
            }
            for sample in chunk.samples
        ],
    }


def chunk_from_plain(values: Mapping[str, Any]) -> Chunk:
    """The inverse of chunk_as_plain, bit for bit."""
    state = dict(values["conditions"])
    state["clock_khz"] = tuple(state["clock_khz"])
    samples = tuple(
        Sample(
            label=sample["label"],
            values_us=_turns(sample["values_us"]),
            warmups_us=_turns(sample["warmups_us"]),
            rows_us={RowKey(layer, node): time for layer, node, time in sample["rows_us"]},
        )
        for sample in values["samples"]
    )
    return Chunk(values["round"], values["index"], Conditions(**state), samples)


def _chunks(lines: Sequence[str]) -> Iterator[Chunk]:
    """Chunks until the first line that is damaged: from there on, measuring goes on."""
    for line in lines:
        try:
            yield chunk_from_plain(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError):
            return


def _line(chunk: Chunk) -> str:
    return json.dumps(chunk_as_plain(chunk), allow_nan=False)


def _whole_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").split("\n")[
            :-1
        ]  # what follows the last newline is torn
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunFolderError(f"cannot read {path}: {error.strerror}; delete it to measure from the start") from error


def _join(values: Sequence[float]) -> str:
    return " ".join(map(repr, values))


def _turns(texts: str | Sequence[str]) -> tuple[tuple[float, ...], ...]:
    """Of each turn; in former tables there was one, and no list."""
    return tuple(map(_split, [texts] if isinstance(texts, str) else texts))


def _split(text: str) -> tuple[float, ...]:
    return tuple(map(float, text.split()))

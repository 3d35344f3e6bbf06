"""A run folder: its file names, atomic writes, and the append-only list of trials.

A file is written beside its final name and renamed, so that a reader (or a resumed run) sees all of it or none of it.
`trials.jsonl` grows by whole lines; a line torn by a crash is dropped when the run is resumed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from amc_mobile.errors import RunFolderError
from amc_mobile.trials import Trial
from amc_mobile.types import Cost, Score


class RunFolder:
    """One run on disk. Every stage reads files of it and writes files into it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config = root / "config.toml"
        self.original_onnx = root / "original.onnx"
        self.original_weights = root / "original.pt"
        self.training = root / "train.json"  # how the original was trained here: see train/history.py
        self.graph = root / "graph.json"
        self.table = root / "table.json"  # its rows stand beside it in table.csv
        self.gram = root / "gram.npz"
        self.ranking = root / "ranking.npz"  # of channels or single weights, by every method that was asked for
        self.trials = root / "trials.jsonl"
        self.probes = root / "probes.jsonl"  # what the search evaluated beside its trials
        self.checkpoint = root / "search.begun.json"  # the settings that trials and probes belong to
        self.sensitivity = root / "sensitivity.json"  # what each group alone loses: see search/sensitivity.py
        self.search = root / "search.json"
        self.refined = root / "refined.json"  # the winner, improved as it will be repaired: see cli/refining.py
        self.refining = root / "refine"  # the trials of that
        self.settled = root / "settled.json"  # what the clock said of the network chosen: see cli/settling.py
        self.pareto = root / "pareto.json"  # the trials that no other beats: see search/front.py
        self.why = root / "why.json"  # what each group's width costs and saves: see search/why.py
        self.policy = root / "policy.json"
        self.weights = root / "weights.pt"
        self.finetuning = root / "finetune.json"  # as train.json, of the training after the cut
        self.model_onnx = root / "model.onnx"
        self.int8 = root / "int8.json"  # how the next two were quantised, or why they could not be
        self.original_int8 = root / "original.int8.onnx"
        self.model_int8 = root / "model.int8.onnx"
        self.accuracy = root / "accuracy.json"
        self.detections = root / "detections.json"  # test pictures with boxes: see report/examples.py
        self.comparison = root / "comparison.json"
        self.summary = root / "summary.json"
        self.report = root / "report.html"
        self.stages = root / "stages.json"  # which stage is finished, and from which inputs
        self.parity = root / "parity.json"  # how far PyTorch and ONNX Runtime differ, for each exported network

    @property
    def devices(self) -> Path:
        """The folder of the comparisons on further devices: one file each, as comparison.json."""
        return self.root / "devices"

    def device_comparison(self, name: str) -> Path:
        """The comparison on a further device, whose name may be anything: "192.168.1.5:5555" is 192.168.1.5_5555.json.

        A name that no file can have is shortened to one, with a part of its hash.
        """
        return self.devices / f"{file_name(name)}.json"

    def model_sha256(self) -> str:
        """The identity of the pruned network, empty before there is one. Raises: RunFolderError."""
        return _sha256(self.model_onnx)

    def search_identity(self) -> str:
        """The identity of the search's result, empty before there is one. Raises: RunFolderError."""
        return _sha256(self.search)[:16]

    def original_sha256(self) -> str:
        """The same of the original network, with its weights."""
        return _sha256(self.original_onnx)

    def int8_sha256(self) -> str:
        """The same of the pruned network in int8."""
        return _sha256(self.model_int8)

    def create(self) -> RunFolder:
        """Makes the folder and checks that it can be written. Raises: RunFolderError."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root):
                pass
        except OSError as error:
            raise RunFolderError(
                f"cannot write run folder {self.root}: {error.strerror}; choose another with --out DIR"
            ) from error
        return self

    def sweep(self) -> None:
        """Removes what a process left that was killed while it wrote. Call it under the folder's lock."""
        for torn in [*self.root.glob(".*.tmp"), *self.devices.glob(".*.tmp")]:
            torn.unlink(missing_ok=True)

    def require(self, path: Path, stage: str) -> Path:
        """The path, if the file is there. Raises: RunFolderError naming the command that makes it."""
        if not path.is_file():
            raise RunFolderError(f"{self.root} has no {path.name} yet; type `amc {stage}` first")
        return path


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise RunFolderError(f"cannot read {path}: {error.strerror}") from error


def file_name(name: str) -> str:
    """A file name for any text: the name itself, as far as files may be called so."""
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", name).strip("._")[:64]
    if safe and re.sub(r":(\d+)$", r"_\1", name) == safe:
        return safe
    return "-".join(filter(None, (safe, hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8])))


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file beside its name and renames it: all or nothing, also when the disk is full or the power fails."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RunFolderError(
            f"cannot write {path}: {error.strerror}; free some space or choose another --out"
        ) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """As write_bytes, UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """As write_bytes: indented JSON of plain values and dataclasses, keys in the order given."""
    write_text(path, json.dumps(plain(value), indent=1, allow_nan=False) + "\n")


def copy_file(source: Path, target: Path) -> None:
    """Puts a file of another folder at `target`: all or nothing. Raises: RunFolderError.

    Files that never change in place are linked where the disk allows it, and take no room of their own.
    """
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        try:
            if source.suffix == ".jsonl":  # grows
                raise OSError
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)
        temporary.replace(target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RunFolderError(f"cannot copy {source} to {target}: {error.strerror}") from error


def read_json(path: Path) -> Any:
    """What a JSON file holds. Raises: RunFolderError if it is missing or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunFolderError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise RunFolderError(f"{path} is damaged ({error}); delete it and run the stage again") from error


def plain(value: Any) -> Any:
    """Dataclasses, tuples and mappings as what JSON knows."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


# ------------------------------------------------------------------------------------------------------------ trials


def append_trial(path: Path, trial: Trial) -> None:
    """Adds a trial. Raises: RunFolderError."""
    append_line(path, trial)


def append_line(path: Path, value: Any) -> None:
    """Adds one whole line of JSON and flushes it to the disk. Raises: RunFolderError."""
    try:
        with path.open("ab") as stream:
            stream.write(json.dumps(plain(value), allow_nan=False).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise RunFolderError(f"cannot write {path}: {error.strerror}; free some space and run again") from error


def read_trials(path: Path) -> list[Trial]:
    """The trials so far, without a last line torn by a crash. Raises: RunFolderError on damage before it."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    whole = lines[:-1]  # what follows the last newline is torn or empty
    try:
        return [_trial(json.loads(line)) for line in whole]
    except (ValueError, KeyError, TypeError) as error:
        raise RunFolderError(f"{path} is damaged ({error}); delete it to search again from the start") from error


def keep_trials(path: Path, trials: Iterable[Trial]) -> None:
    """Rewrites the file with exactly these trials (a resumed search drops what its checkpoint does not know)."""
    write_bytes(path, b"".join(json.dumps(plain(trial), allow_nan=False).encode() + b"\n" for trial in trials))


def _trial(values: dict[str, Any]) -> Trial:
    cost, score = Cost(**values.pop("cost")), Score(**values.pop("score"))
    return Trial(kept=tuple(values.pop("kept")), cost=cost, score=score, **values)

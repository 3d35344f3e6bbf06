"""What the runner tells, line by line, and a reader that believes nothing else (PROTOCOL.md, "The lines")."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar

from amc_mobile.errors import DeviceError
from android_bench.runner.manifest import VERSION

MOST_BYTES = 64 * 2**20
MOST_LINE_BYTES = 16 * 2**20
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Hello:
    """The runner has read its manifest and opened ONNX Runtime."""

    runner: str
    onnxruntime: str
    abi: str
    providers: tuple[str, ...]
    cores: tuple[int, ...]  # that the kernel granted
    clock: str


@dataclass(frozen=True, slots=True)
class Begun:
    """A step has begun: should the runner end now, this step is to blame."""

    step: int


@dataclass(frozen=True, slots=True)
class Output:
    """One output of a network, left in a raw little-endian file in the runner's working folder."""

    name: str
    type: str  # "float32", as numpy says it
    shape: tuple[int, ...]
    file: str


@dataclass(frozen=True, slots=True)
class Timed:
    """A step is done. Files are named relative to the runner's working folder."""

    step: int
    load_us: float
    first_run_us: float
    warmups_us: tuple[float, ...]
    values_us: tuple[float, ...]
    peak_bytes: int | None = None
    samples: Mapping[str, str] = field(default_factory=dict)
    nodes_per_provider: Mapping[str, int] = field(default_factory=dict)  # of "profile" steps
    profile: str | None = None
    optimised: str | None = None
    tensors: tuple[Output, ...] = ()  # of "outputs" steps

    @property
    def outputs(self) -> tuple[str, ...]:
        """The files of the outputs, in the network's order."""
        return tuple(output.file for output in self.tensors)


@dataclass(frozen=True, slots=True)
class Failed:
    """A step could not be done, or with `step` None: nothing can, and the runner ends."""

    step: int | None
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Done:
    """All steps were dealt with."""


Event = Hello | Begun | Timed | Failed | Done


class EventReader:
    """Turns the runner's output into events, however it is cut into pieces. Holds at most one line."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._bytes = 0

    def feed(self, data: bytes) -> list[Event]:
        """The events that became complete with `data`.

        Raises: DeviceError for anything that is not the protocol: no JSON, an unknown event, too much of it.
        """
        self._bytes += len(data)
        if self._bytes > MOST_BYTES:
            _refuse(f"it says more than {MOST_BYTES >> 20} MiB")
        *lines, rest = data.split(b"\n")
        events = []
        for line in lines:
            self._keep(line)
            events.append(_event(bytes(self._rest)))
            self._rest.clear()
        self._keep(rest)
        return events

    def close(self) -> None:
        """Raises: DeviceError if a line was begun and not ended."""
        if self._rest:
            _refuse("it ended in the middle of a line", bytes(self._rest))

    def _keep(self, piece: bytes) -> None:
        if len(self._rest) + len(piece) > MOST_LINE_BYTES:
            _refuse(f"one line of it has more than {MOST_LINE_BYTES >> 20} MiB")
        self._rest += piece


def _event(line: bytes) -> Event:
    try:
        said = json.loads(line.decode("utf-8"), parse_constant=_no_constant)
        if not isinstance(said, dict):
            raise TypeError("no object")
        reader = _EVENTS.get(said.get("event"))
        if reader is None:
            raise ValueError("unknown event")
        return reader(said)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        _refuse("one line of it is not the runner's", line, error)


def _hello(said: Mapping[str, Any]) -> Hello:
    if _count(said["protocol"]) != VERSION:
        raise ValueError("another version")
    return Hello(
        runner=_text(said["runner"]),
        onnxruntime=_text(said["onnxruntime"]),
        abi=_text(said["abi"]),
        providers=_several(_text, said["providers"]),
        cores=_several(_count, said["cores"]),
        clock=_text(said["clock"]),
    )


def _timed(said: Mapping[str, Any]) -> Timed:
    return Timed(
        step=_count(said["step"]),
        load_us=_time(said["load_us"]),
        first_run_us=_time(said["first_run_us"]),
        warmups_us=_several(_time, said["warmups_us"]),
        values_us=_several(_time, said["values_us"]),
        peak_bytes=_or_none(_count, said.get("peak_bytes")),
        samples=_by_name(_text, said.get("samples", {})),
        nodes_per_provider=_by_name(_count, said.get("nodes_per_provider", {})),
        profile=_or_none(_file, said.get("profile")),
        optimised=_or_none(_file, said.get("optimised")),
        tensors=_several(_output, said.get("outputs", [])),
    )


def _output(said: object) -> Output:
    if not isinstance(said, dict):
        raise TypeError("no object")
    return Output(_text(said["name"]), _text(said["type"]), _several(_count, said["shape"]), _file(said["file"]))


def _failed(said: Mapping[str, Any]) -> Failed:
    return Failed(_or_none(_count, said["step"]), _text(said["code"]), _text(said["message"]))


_EVENTS: Mapping[object, Callable[[Mapping[str, Any]], Event]] = {
    "hello": _hello,
    "begun": lambda said: Begun(_count(said["step"])),
    "timed": _timed,
    "failed": _failed,
    "done": lambda said: Done(),
}


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair is valid JSON, and no text


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise TypeError("no count")
    return value


def _time(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError("no time")
    time_us = float(value)
    if not (math.isfinite(time_us) and time_us >= 0):
        raise ValueError("no time")
    return time_us


def _file(value: object) -> str:
    name = _text(value)
    if "/" in name or "\0" in name or name in ("", ".", ".."):
        raise ValueError("a file elsewhere")
    return name


def _several(one: Callable[[object], T], values: object) -> tuple[T, ...]:
    if not isinstance(values, list):
        raise TypeError("no list")
    return tuple(map(one, values))


def _by_name(one: Callable[[object], T], values: object) -> dict[str, T]:
    if not isinstance(values, dict):
        raise TypeError("no object")
    return {_text(name): one(value) for name, value in values.items()}


def _or_none(one: Callable[[object], T], value: object) -> T | None:
    return None if value is None else one(value)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _refuse(why: str, line: bytes = b"", error: Exception | None = None) -> NoReturn:
    shown = f": {line[:60]!r}" if line else ""
    raise DeviceError(
        f"the device answers garbage in the place of the runner, {why}{shown}; type `amc selfcheck`"
    ) from error

"""What the runner is asked to do, and the text in which it is told (PROTOCOL.md, "The manifest")."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from amc_mobile.errors import DeviceError

VERSION = 1
Kind = Literal["time", "profile", "outputs"]
Level = Literal["all", "extended", "basic", "disabled"]
Clock = Literal["thread", "wall"]
_MOST_RUNS = 1_000_000
_MOST_WARMUPS = 100_000
_MOST_SECONDS = 86_400.0
_FEWEST = 15


@dataclass(frozen=True, slots=True)
class Model:
    """One ONNX file on the device.

    `inputs` are raw little-endian files by the input's name; an input without one is made from the seed. `free` sets
    free dimensions by name; those that are not named are 1.
    """

    path: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    free: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """One session of one model: opened, warmed up, run, closed.

    At least `runs` runs and at least `min_time_s`; once `fewest_runs` are done, none begins after `most_time_s`, and of
    the warm-ups none after as long, once there are two. `cold`: the processor's caches are emptied before every run.
    `optimised`: the graph as the runtime runs it is left in a file.
    """

    model: int  # index into Manifest.models
    kind: Kind
    warmups: int
    runs: int
    min_time_s: float = 0.0
    most_time_s: float = math.inf
    fewest_runs: int = _FEWEST
    cold: bool = False
    optimised: bool = False


@dataclass(frozen=True, slots=True)
class Manifest:
    """All that one start of the runner does, in the order of `steps`.

    `samples` are files by a name of one's own, whose first line is read after every step. `cores` empty: as the system
    likes. Paths are the device's.
    """

    library: str
    models: tuple[Model, ...]
    steps: tuple[Step, ...]
    threads: int = 1
    level: Level = "all"
    provider: str = "cpu"
    options: Mapping[str, str] = field(default_factory=dict)  # of the provider
    config: Mapping[str, str] = field(default_factory=dict)  # ONNX Runtime's session config entries
    cores: tuple[int, ...] = ()
    clock: Clock = "wall"
    seed: int = 0
    samples: Mapping[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """The manifest as the runner reads it. Raises: DeviceError for what the runner would refuse."""
        return "".join(f"{line}\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"amc-runner {VERSION}"
        yield f"library {_value(self.library)}"
        yield f"threads {_whole('threads', self.threads, 1, 1024)}"
        yield f"level {_one_of('level', self.level, get_args(Level))}"
        yield f"provider {_value(self.provider)}"
        yield from (f"option {_pair(*item)}" for item in self.options.items())
        yield from (f"config {_pair(*item)}" for item in self.config.items())
        if self.cores:
            yield f"cores {','.join(_whole('core', core, 0, 1023) for core in self.cores)}"
        yield f"clock {_one_of('clock', self.clock, get_args(Clock))}"
        yield f"seed {_whole('seed', self.seed, 0, 2**64 - 1)}"
        yield from (f"sample {_pair(*item)}" for item in self.samples.items())
        for model in self.models:
            yield f"model {_value(model.path)}"
            yield from (f"input {_pair(*item)}" for item in model.inputs.items())
            yield from (f"free {_pair(name, _whole(name, size, 1, 2**31 - 1))}" for name, size in model.free.items())
        yield from (self._step(step) for step in self.steps)
        yield "end"

    def _step(self, step: Step) -> str:
        kind = _one_of("step", step.kind, get_args(Kind))
        words = [
            f"step {_whole('model of a step', step.model, 0, len(self.models) - 1)} {kind}",
            f"warmups={_whole('warmups', step.warmups, 0, _MOST_WARMUPS)}",
            f"runs={_whole('runs', step.runs, 1, _MOST_RUNS)}",
            f"min_time_s={_seconds('min_time_s', step.min_time_s)}",
        ]
        words += [] if math.isinf(step.most_time_s) else [f"most_time_s={_seconds('most_time_s', step.most_time_s)}"]
        words += (
            [f"fewest_runs={_whole('fewest_runs', step.fewest_runs, 1, _MOST_RUNS)}"]
            if step.fewest_runs != _FEWEST
            else []
        )
        words += ["cold=1"] if step.cold else []
        words += ["optimised=1"] if step.optimised else []
        return " ".join(words)


def parse(text: str) -> Manifest:
    """The manifest that such a text stands for: `parse(manifest.text()) == manifest`.

    Raises: DeviceError where it is none.
    """
    lines = text.split("\n")
    if lines[:1] != [f"amc-runner {VERSION}"] or lines[-2:] != ["end", ""]:
        raise DeviceError(f"this is no manifest of the runner's version {VERSION}, or it is cut off; write it again")
    reader = _Reader()
    for line in lines[1:-2]:
        reader.take(line)
    return reader.manifest()


class _Reader:
    """Collects the lines of a manifest."""

    def __init__(self) -> None:
        self._single: dict[str, str] = {}
        self._pairs: dict[str, dict[str, str]] = {"option": {}, "config": {}, "sample": {}}
        self._models: list[tuple[str, dict[str, str], dict[str, int]]] = []
        self._steps: list[Step] = []

    def take(self, line: str) -> None:
        key, _, value = line.partition(" ")
        name, _, second = value.partition("\t")
        try:
            if key == "model":
                self._models.append((value, {}, {}))
            elif key == "input":
                self._models[-1][1][name] = second
            elif key == "free":
                self._models[-1][2][name] = int(second)
            elif key == "step":
                self._steps.append(_step(value.split(" ")))
            elif key in self._pairs:
                self._pairs[key][name] = second
            else:
                self._single[key] = value
        except (ValueError, TypeError, IndexError) as error:
            raise DeviceError(f"this line of a manifest cannot be read: {line[:80]!r}; write it again") from error

    def manifest(self) -> Manifest:
        conversions: dict[str, Callable[[str], object]] = {
            **dict.fromkeys(("library", "level", "provider", "clock"), str),
            **dict.fromkeys(("threads", "seed"), int),
            "cores": lambda text: tuple(map(int, text.split(","))),
        }
        try:
            single: dict[str, object] = {key: conversions[key](value) for key, value in self._single.items()}
            manifest = Manifest(
                models=tuple(Model(*model) for model in self._models),
                steps=tuple(self._steps),
                options=self._pairs["option"],
                config=self._pairs["config"],
                samples=self._pairs["sample"],
                **single,  # type: ignore[arg-type]
            )
        except (KeyError, ValueError, TypeError) as error:
            raise DeviceError(f"this manifest does not say what it must ({error}); write it again") from error
        manifest.text()  # refuses what the runner would
        return manifest


def _step(words: list[str]) -> Step:
    given = dict(word.split("=", 1) for word in words[2:])
    numbers: dict[str, Callable[[str], float]] = {
        "warmups": int,
        "runs": int,
        "min_time_s": float,
        "most_time_s": float,
        "fewest_runs": int,
        "cold": _flag,
        "optimised": _flag,
    }
    try:
        fields = {key: numbers[key](value) for key, value in given.items()}
    except KeyError as error:
        raise ValueError(f"unknown {error}") from error
    return Step(int(words[0]), words[1], **fields)  # type: ignore[arg-type]


def _flag(text: str) -> bool:
    return bool(("0", "1").index(text))


def _value(text: str) -> str:
    if not text or any(character in text for character in "\n\r\t\0"):
        raise DeviceError(f"the runner takes no empty text, line break or tab ({text[:60]!r}); rename the file")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DeviceError(f"{text[:60]!r} is no UTF-8; rename the file") from error
    return text


def _pair(name: str, value: str) -> str:
    return f"{_value(name)}\t{_value(value)}"


def _whole(name: str, value: int, least: int, most: int) -> str:
    if not least <= value <= most:
        raise DeviceError(f"{name} is {value}, but the runner takes {least} to {most}; change it")
    return str(int(value))


def _seconds(name: str, value: float) -> str:
    if not 0.0 <= value <= _MOST_SECONDS:
        raise DeviceError(f"{name} is {value} s, but the runner takes 0 to {_MOST_SECONDS:.0f}; change it")
    return f"{value:.6f}"


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise DeviceError(f"the runner knows no {name} {value!r}; use one of {', '.join(choices)}")
    return value

"""Damaged manifests and damaged models: whatever comes, stdout holds JSON lines only, and our code does not crash.

The runner is compiled with the sanitizers of addresses and undefined behaviour. Seeds are fixed: what fails once fails
again. Inside ONNX Runtime a damaged model may do anything; then it ends by a signal, and the lines before are whole.
"""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import pytest

from amc_mobile.errors import DeviceError
from android_bench.runner.compile import SOURCE
from android_bench.runner.events import EventReader, Failed
from android_bench.runner.manifest import Manifest, Model, Step
from tests.android_bench.runner.running import Program, convolution, saved

CODES = {0, 2, 3, 4, 5, 6, 7}
SANITIZER = 99
OPTIONS = f"exitcode={SANITIZER}:detect_leaks=0:handle_segv=0:handle_abort=0:handle_sigbus=0:handle_sigfpe=0"
NUMBERS = (
    "0",
    "1",
    "-1",
    "15",
    "1023",
    "1024",
    "2147483648",
    "18446744073709551615",
    "18446744073709551616",
    "1e9",
    "0.5",
)
WORDS = (
    "time",
    "profile",
    "outputs",
    "all",
    "cpu",
    "nnapi",
    "xnnpack",
    "thread",
    "runs=3",
    "fewest_runs=2",
    "cold=1",
    "optimised=1",
)


@pytest.fixture(scope="module")
def sanitized(program: Program, tmp_path_factory: pytest.TempPathFactory) -> Program:
    if shutil.which("gcc") is None:
        pytest.skip("there is no gcc, whose sanitizers find what is wrong")
    runner = tmp_path_factory.mktemp("sanitized") / "runner"
    flags = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    ended = subprocess.run(
        ["gcc", *flags, str(SOURCE), "-o", str(runner), "-ldl"], capture_output=True, text=True, check=False
    )
    if ended.returncode:
        pytest.skip("this gcc has no sanitizers")
    return Program(runner, program.library)


def started(program: Program, text: bytes, folder: Path) -> tuple[int | None, bytes, bytes]:
    """Exit code (None: still busy after some seconds), stdout, stderr."""
    (folder / "manifest.txt").write_bytes(text)
    command = [str(program.runner), "manifest.txt"]
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={"ASAN_OPTIONS": OPTIONS}
    ) as process:
        try:
            stdout, stderr = process.communicate(timeout=8)
        except subprocess.TimeoutExpired:
            process.kill()
            stdout, stderr = process.communicate()
            return None, stdout, stderr
    return process.returncode, stdout, stderr


def told(stdout: bytes) -> list:
    reader = EventReader()
    events = reader.feed(stdout)
    reader.close()
    return events


def repeatable(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 -- no secret


def whole(program: Program, folder: Path) -> Manifest:
    """One that says everything that can be said, and is quickly done."""
    saved(convolution("side"), folder / "m.onnx")
    (folder / "x.bin").write_bytes(bytes(4 * 3 * 4 * 4))
    kinds = ("time", "profile", "outputs")
    return Manifest(
        library=str(program.library),
        models=(Model("m.onnx", {"x": "x.bin"}, {"side": 4}), Model("m.onnx")),
        steps=tuple(
            Step(number % 2, kind, 1, 2, 0.0, 0.0, 2, cold=kind == "time") for number, kind in enumerate(kinds)
        ),
        config={"session.intra_op.allow_spinning": "0"},
        cores=(0,),
        clock="thread",
        seed=7,
        samples={"a": "x.bin", "b": "/proc/self/stat"},
    )


def damaged(text: bytes, draw: random.Random) -> bytes:
    """The text with one to four changes of lines, words or bytes."""
    for _ in range(draw.randint(1, 4)):
        change = draw.randrange(6)
        lines = text.split(b"\n")
        place = draw.randrange(len(lines))
        if change == 0:
            del lines[place]
        elif change == 1:
            lines.insert(draw.randrange(len(lines) + 1), lines[place])
        elif change == 2:
            words = lines[place].replace(b"=", b"= ").split(b" ")
            words[draw.randrange(len(words))] = draw.choice((*NUMBERS, *WORDS)).encode()
            lines[place] = b" ".join(words).replace(b"= ", b"=")
        elif change == 3:
            lines[place] = lines[place].replace(b"\t", draw.choice((b"", b" ", b"\t\t", b"\t" + b"x" * 9000)))
        else:
            return damaged_bytes(b"\n".join(lines), draw)
        text = b"\n".join(lines)
    return text


def damaged_bytes(data: bytes, draw: random.Random) -> bytes:
    """The bytes with some changed, cut out, doubled, or cut off."""
    changed = bytearray(data)
    for _ in range(draw.randint(1, 8)):
        if not changed:
            break
        place, length = draw.randrange(len(changed)), draw.choice((1, 1, 2, 8, 100))
        change = draw.randrange(5)
        if change == 0:
            del changed[place : place + length]
        elif change == 1:
            changed[place:place] = changed[place : place + length]
        elif change == 2:
            changed[place] = draw.randrange(256)
        elif change == 3:
            changed[place] ^= 1 << draw.randrange(8)
        elif draw.random() < 0.2:
            del changed[place:]
    return bytes(changed)


def check_manifests(program: Program, folder: Path, seeds: range) -> None:
    text = whole(program, folder).text().encode()
    code, stdout, _ = started(program, text, folder)
    assert (code, len(told(stdout))) == (0, 8)
    for seed in seeds:
        code, stdout, stderr = started(program, damaged(text, repeatable(seed)), folder)
        assert code is None or code in CODES, (seed, code, stderr[-2000:])
        if code is not None:
            events = told(stdout)
            refused = [event for event in events if isinstance(event, Failed) and event.step is None]
            assert bool(refused) == (code != 0), (seed, code, stdout)


def check_models(program: Program, models: list[bytes], folder: Path, seeds: range) -> None:
    text = program.manifest(
        Model("m.onnx"), steps=(Step(0, "time", 1, 1, 0.0, 0.0), Step(0, "outputs", 0, 1, 0.0, 0.0, optimised=True))
    ).text()
    for seed in seeds:
        draw = repeatable(seed)
        (folder / "m.onnx").write_bytes(damaged_bytes(draw.choice(models), draw))
        code, stdout, stderr = started(program, text.encode(), folder)
        assert code is None or code in CODES or code < 0 or (code == SANITIZER and b"runner.c" not in stderr), (
            seed,
            code,
            stderr[-2000:],
        )
        try:
            events = told(stdout)
        except DeviceError as error:
            pytest.fail(f"seed {seed}: {error}")
        assert all(event.step is not None for event in events if isinstance(event, Failed)), (seed, stdout)


def models_of(exported) -> list[bytes]:
    small = convolution().SerializeToString()
    return [small, small, exported("digits").SerializeToString()]


def test_damaged_manifests(sanitized: Program, tmp_path: Path):
    check_manifests(sanitized, tmp_path, range(60))


def test_damaged_models(sanitized: Program, exported, tmp_path: Path):
    check_models(sanitized, models_of(exported), tmp_path, range(30))


@pytest.mark.slow
def test_many_damaged_manifests(sanitized: Program, tmp_path: Path):
    check_manifests(sanitized, tmp_path, range(1000, 3000))


@pytest.mark.slow
def test_many_damaged_models(sanitized: Program, exported, tmp_path: Path):
    check_models(sanitized, models_of(exported), tmp_path, range(1000, 1600))

"""The runner and the ONNX Runtime that it loads, for one kind of processor: made on this machine, kept by content."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from android_bench.adb import quote

Abi = Literal["arm64-v8a", "x86_64"]
Compiler = Literal["auto", "zig", "ndk", "gcc"]
LIBRARY = "libonnxruntime.so"
RUNNER = "runner"
_LOADER = "ld-linux-aarch64.so.1"


@dataclass(frozen=True, slots=True)
class Bundle:
    """Files that lie in one folder on the device. Their names there are ours and need no quoting."""

    abi: Abi
    build: str  # "zig 0.15.1, glibc"
    runtime: str  # "onnxruntime 1.32.0"
    digest: str  # SHA-256 over all files
    files: Mapping[str, Path]  # by name on the device
    executables: frozenset[str]

    def library(self, folder: str) -> str:
        """What a Manifest names as its library, with the bundle in `folder` on the device."""
        return f"{folder}/{LIBRARY}"

    def command(self, folder: str, manifest: str, *, wrapper: Sequence[str] = ()) -> str:
        """The shell line that runs the manifest, with the bundle in `folder`; `wrapper` is an emulator."""
        words = [*wrapper]
        if _LOADER in self.files:
            words += [f"{folder}/{_LOADER}", "--library-path", folder]
        return " ".join(map(quote, [*words, f"{folder}/{RUNNER}", manifest]))


def bundle(
    abi: Abi,
    *,
    compiler: Compiler = "auto",
    aar: Path | None = None,
    libraries: Path | None = None,
    cache: Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> Bundle:
    """The runner for `abi` with its libraries, made now unless it was made before.

    Raises: DeviceError where something that it is made of cannot be had.
    """
    raise NotImplementedError

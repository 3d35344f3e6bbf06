"""The runner and the ONNX Runtime that it loads, for one kind of processor: made on this machine, kept by content.

    python -m android_bench.bundle --abi arm64-v8a [--aar FILE] [--compiler zig|ndk|gcc] [--libraries FOLDER]

Nothing of it is in the repository. What was made once is found again without a network.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from amc_mobile.errors import AmcError
from android_bench.adb import quote
from android_bench.runner import libraries as sources
from android_bench.runner.cache import default_cache, digest, kept, sums
from android_bench.runner.compile import Abi, Compiler, Toolchain, compile_runner, sources_sha256, toolchain

__all__ = ["RUNNER", "Abi", "Bundle", "Compiler", "bundle", "main"]

RUNNER = "runner"


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
        return f"{folder}/{sources.LIBRARY}"

    def command(self, folder: str, manifest: str, *, wrapper: Sequence[str] = ()) -> str:
        """The shell line that runs the manifest, with the bundle in `folder`; `wrapper` is an emulator."""
        words = [*wrapper]
        if sources.LOADER in self.files:
            words += [f"{folder}/{sources.LOADER}", "--library-path", folder]
        line = " ".join(map(quote, [*words, f"{folder}/{RUNNER}", manifest]))
        return f"LD_LIBRARY_PATH={quote(folder)} {line}" if self.build.endswith("bionic") else line


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

    Args:
        abi: "arm64-v8a" or "x86_64".
        compiler: "auto" takes the NDK for Android's libraries if ANDROID_NDK_HOME names one, else zig, else gcc.
        aar: archive of Android's ONNX Runtime; without it the one for Linux is taken, with a C library of its own.
        libraries: folder with arm64's loader and C library; without it they come out of Debian's packages.
        cache: where it is kept; without it in the user's cache.
        progress: is told what takes long.

    Raises: DeviceError where something that it is made of cannot be had.
    """
    tools = toolchain(abi, compiler, "glibc" if aar is None else "bionic")
    maker = _Maker(cache or default_cache(), progress or (lambda what: None))
    parts = [maker.runner(tools), maker.runtime(abi, aar)]
    if abi == "arm64-v8a" and aar is None:
        parts.append(maker.glibc(libraries))
    return maker.whole(tools, parts)


class _Maker:
    """Makes the parts of a bundle; each is kept by what it is made of."""

    def __init__(self, cache: Path, told: Callable[[str], None]) -> None:
        self._cache = cache
        self._told = told

    def runner(self, tools: Toolchain) -> Path:
        recipe = f"{tools.name} {tools.abi} {tools.command[0]} {sources_sha256()}"

        def make(folder: Path) -> None:
            self._told(f"compiling the runner with {tools.name}")
            compile_runner(tools, folder / RUNNER)

        return kept(self._cache, f"runner-{tools.abi}-{_short(recipe)}", make)

    def runtime(self, abi: Abi, aar: Path | None) -> Path:
        if aar is not None:
            name = f"aar-{abi}-{sources.file_sha256(aar)[:16]}"
            return kept(self._cache, name, functools.partial(sources.from_aar, aar, abi))
        version = sources.installed_version()

        def make(folder: Path) -> None:
            self._told(f"getting ONNX Runtime {version} for {abi}")
            sources.from_wheel(abi, version, folder)

        return kept(self._cache, f"onnxruntime-{version}-{abi}", make)

    def glibc(self, libraries: Path | None) -> Path:
        if libraries is not None:
            name = f"glibc-arm64-v8a-{_short(sources.folder_sha256(libraries))}"
            return kept(self._cache, name, functools.partial(sources.glibc_from_folder, libraries))

        def make(folder: Path) -> None:
            self._told("getting arm64's C library from Debian")
            sources.glibc_from_debian(folder)

        return kept(self._cache, "glibc-arm64-v8a-debian", make)

    def whole(self, tools: Toolchain, parts: Sequence[Path]) -> Bundle:
        known = {name: value for part in parts for name, value in sums(part).items()}
        identity = digest(known)
        folder = kept(self._cache, f"bundle-{identity[:32]}", functools.partial(_gather, parts))
        return Bundle(
            abi=tools.abi,
            build=tools.name,
            runtime=sources.runtime_of(folder / sources.LIBRARY),
            digest=identity,
            files={name: folder / name for name in sorted(known)},
            executables=frozenset({RUNNER, sources.LOADER} & known.keys()),
        )


def _gather(parts: Iterable[Path], folder: Path) -> None:
    for part in parts:
        for name in sums(part):
            try:
                (folder / name).hardlink_to(part / name)
            except OSError:  # a file system without them
                shutil.copyfile(part / name, folder / name)
    for name in {RUNNER, sources.LOADER} & {file.name for file in folder.iterdir()}:
        (folder / name).chmod(0o755)


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def main(arguments: Sequence[str] | None = None) -> int:
    """Makes a bundle and prints where it is and what is in it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--abi", default="arm64-v8a", help="arm64-v8a (phones) or x86_64")
    parser.add_argument("--compiler", default="auto", help="auto, zig, ndk or gcc")
    parser.add_argument("--aar", type=Path, help="archive of Android's ONNX Runtime (onnxruntime-android)")
    parser.add_argument("--libraries", type=Path, help="folder with arm64's loader and C library")
    given = parser.parse_args(arguments)
    try:
        made = bundle(
            given.abi,
            compiler=given.compiler,
            aar=given.aar,
            libraries=given.libraries,
            progress=lambda what: print(what, file=sys.stderr),
        )
    except AmcError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    folder = made.files[RUNNER].parent
    size = sum(path.stat().st_size for path in made.files.values())
    print(f"folder   {folder}\ndigest   {made.digest}\nabi      {made.abi}\nbuild    {made.build}")
    print(f"runtime  {made.runtime}\nfiles    {', '.join(made.files)} ({size / 2**20:.1f} MiB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())

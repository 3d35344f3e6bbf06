"""The runner as a program, by whichever C compiler is at hand: zig from PyPI, the Android NDK, or gcc."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from amc_mobile.errors import DeviceError, first_line

Abi = Literal["arm64-v8a", "x86_64"]
Compiler = Literal["auto", "zig", "ndk", "gcc"]
Libc = Literal["glibc", "bionic"]
HERE = Path(__file__).parent
SOURCE = HERE / "runner.c"
_START = HERE / "bionic_start.c"
_MACHINES: Mapping[Abi, str] = {"arm64-v8a": "aarch64", "x86_64": "x86_64"}
_OLDEST_GLIBC = "2.28"  # that of the libraries in ONNX Runtime's wheels
_ANDROID_API = 24
_PAGE = "-Wl,-z,max-page-size=16384"  # of newer phones
_LIMIT_S = 300.0
# What the runner uses of Android's libraries. Linking fails, here and not on a phone, where it uses something else.
_BIONIC: Mapping[str, str] = {
    "libc.so": "__errno __libc_init _exit abort calloc clock_gettime close dup2 fcntl free malloc memcmp memcpy "
    "memmove memset open posix_memalign read realloc sched_getaffinity sched_setaffinity signal snprintf strchr strcmp "
    "strerror strlen strpbrk strstr vsnprintf write",
    "libdl.so": "dlerror dlopen dlsym",
}


@dataclass(frozen=True, slots=True)
class Toolchain:
    """A compiler for one kind of processor and C library; `name` says what the program was built with."""

    name: str  # "zig 0.15.1, glibc"
    kind: Literal["zig", "ndk", "gcc"]
    command: tuple[str, ...]
    abi: Abi
    libc: Libc


def machine(abi: Abi) -> str:
    """The name of an ABI's processors on Linux. Raises: DeviceError for another ABI."""
    if abi not in _MACHINES:
        raise DeviceError(f"there is no runner for {abi!r}; use one of {', '.join(get_args(Abi))}")
    return _MACHINES[abi]


def native(abi: Abi) -> bool:
    """Whether this machine runs programs of that ABI."""
    return platform.system() == "Linux" and platform.machine() == machine(abi)


def toolchain(abi: Abi, compiler: Compiler, libc: Libc) -> Toolchain:
    """The compiler to use. "auto": the NDK for Android's own libraries if it is there, else zig, else gcc if it can.

    Raises: DeviceError if there is none.
    """
    machine(abi)
    if compiler not in get_args(Compiler):
        raise DeviceError(f"there is no compiler {compiler!r}; type one of {', '.join(get_args(Compiler))}")
    if compiler == "ndk" or (compiler == "auto" and libc == "bionic" and os.environ.get("ANDROID_NDK_HOME")):
        return _ndk(abi, libc)
    if compiler == "gcc":
        return _gcc(abi, libc)
    if (found := _zig(abi, libc)) is not None:
        return found
    if compiler == "auto" and libc == "glibc" and _gcc_command(abi) is not None:
        return _gcc(abi, libc)
    raise DeviceError("zig is not installed, and the runner is compiled with it; type `pip install ziglang`")


def sources_sha256() -> str:
    """SHA-256 over everything of ours that decides what program comes out."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in (SOURCE, _START, Path(__file__)))).hexdigest()


def compile_runner(tools: Toolchain, program: Path) -> None:
    """Writes the program. Raises: DeviceError with the compiler's words if it fails."""
    with tempfile.TemporaryDirectory(prefix="amc-runner-") as name:
        folder = Path(name)
        if tools.kind == "zig" and tools.libc == "bionic":
            _link_without_ndk(tools, program, folder)
            return
        target = ["-target", f"{machine(tools.abi)}-linux-gnu.{_OLDEST_GLIBC}"] if tools.kind == "zig" else []
        shape = ["-fPIE", "-pie", _PAGE] if tools.libc == "bionic" else []
        _run(tools, [*target, "-O2", "-s", *shape, str(SOURCE), "-o", str(program), "-ldl"], folder)


def _link_without_ndk(tools: Toolchain, program: Path, folder: Path) -> None:
    """Links against libraries that hold nothing but the names of Android's, and begins as Android's programs do."""
    target = ["-target", f"{machine(tools.abi)}-linux-gnu.{_OLDEST_GLIBC}"]
    flags = ["-O2", "-fPIE", "-fno-stack-protector", "-fno-sanitize=all", "-DRUNNER_BIONIC"]
    for library, symbols in _BIONIC.items():
        stub = folder / f"{library}.c"
        stub.write_text("".join(f"void {symbol}(void) {{}}\n" for symbol in symbols.split()), encoding="utf-8")
        shape = ["-w", "-shared", "-nostdlib", "-fno-builtin", f"-Wl,-soname,{library}"]
        _run(tools, [*target, *shape, str(stub), "-o", str(folder / library)], folder)
    objects = []
    for source in (_START, SOURCE):  # apart from linking: without a C library zig has no headers either
        objects.append(str(folder / f"{source.stem}.o"))
        _run(tools, [*target, *flags, "-c", str(source), "-o", objects[-1]], folder)
    libraries = [str(folder / library) for library in _BIONIC]
    shape = ["-s", "-pie", "-nostdlib", "-Wl,--dynamic-linker=/system/bin/linker64", "-Wl,--hash-style=both", _PAGE]
    _run(tools, [*target, *shape, *objects, *libraries, "-o", str(program)], folder)


def _run(tools: Toolchain, arguments: Sequence[str], folder: Path) -> None:
    caches = {"ZIG_GLOBAL_CACHE_DIR": str(folder / "zig"), "ZIG_LOCAL_CACHE_DIR": str(folder / "zig")}  # leave no trace
    try:
        ended = subprocess.run(
            [*tools.command, *arguments],
            env={**caches, **os.environ},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise DeviceError(f"{tools.name} does not run: {first_line(error)}; choose another --compiler") from error
    if ended.returncode != 0:
        said = next((line for line in ended.stderr.splitlines() if "error" in line), ended.stderr.strip()[:200])
        raise DeviceError(f"{tools.name} cannot compile the runner: {said.strip()[:300]}; choose another --compiler")


def _zig(abi: Abi, libc: Libc) -> Toolchain | None:
    try:
        version = importlib.metadata.version("ziglang")
        return Toolchain(f"zig {version}, {libc}", "zig", (sys.executable, "-m", "ziglang", "cc"), abi, libc)
    except importlib.metadata.PackageNotFoundError:
        pass
    if (program := shutil.which("zig")) is None:
        return None
    return Toolchain(f"zig {_said([program, 'version'])}, {libc}", "zig", (program, "cc"), abi, libc)


def _ndk(abi: Abi, libc: Libc) -> Toolchain:
    if libc != "bionic":
        raise DeviceError("the NDK builds for Android's own libraries; give Android's ONNX Runtime with --aar FILE")
    home = os.environ.get("ANDROID_NDK_HOME")
    if not home:
        raise DeviceError("the NDK was asked for, but ANDROID_NDK_HOME is not set; set it, or type --compiler zig")
    name = f"{machine(abi)}-linux-android{_ANDROID_API}-clang"
    found = sorted(Path(home).glob(f"toolchains/llvm/prebuilt/*/bin/{name}"))
    if not found:
        raise DeviceError(f"there is no {name} in {home}; set ANDROID_NDK_HOME to an NDK, or type --compiler zig")
    return Toolchain(f"ndk {_ndk_revision(Path(home))}, {libc}", "ndk", (str(found[0]),), abi, libc)


def _ndk_revision(home: Path) -> str:
    try:
        text = (home / "source.properties").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "of unknown version"
    found = re.search(r"^Pkg\.Revision\s*=\s*([\w.+-]+)", text, re.MULTILINE)
    return found.group(1) if found else "of unknown version"


def _gcc(abi: Abi, libc: Libc) -> Toolchain:
    if libc == "bionic":
        raise DeviceError("gcc has no Android libraries; type --compiler zig, or ndk")
    if (program := _gcc_command(abi)) is None:
        raise DeviceError(f"there is no gcc for {abi} on this machine; type --compiler zig")
    return Toolchain(f"gcc {_said([program, '-dumpfullversion'])}, {libc}", "gcc", (program,), abi, libc)


def _gcc_command(abi: Abi) -> str | None:
    cross = shutil.which(f"{machine(abi)}-linux-gnu-gcc")
    return (shutil.which("gcc") or cross) if native(abi) else cross


def _said(command: Sequence[str]) -> str:
    try:
        ended = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise DeviceError(f"{command[0]} does not run: {first_line(error)}; choose another --compiler") from error
    return (ended.stdout.strip().splitlines() or ["of unknown version"])[0]

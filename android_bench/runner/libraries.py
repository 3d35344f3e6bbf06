"""The libraries that the runner needs on a device: ONNX Runtime, and a C library where Android's is not used."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from amc_mobile.errors import DeviceError, first_line
from android_bench.runner.compile import Abi, machine, native

LIBRARY = "libonnxruntime.so"  # as it is called on the device
LOADER = "ld-linux-aarch64.so.1"
_GLIBC = (
    LOADER,
    "libc.so.6",
    "libm.so.6",
    "libdl.so.2",
    "librt.so.1",
    "libpthread.so.0",
    "libstdc++.so.6",
    "libgcc_s.so.1",
)
_DEBIAN_PACKAGES = ("libc6-arm64-cross", "libstdc++6-arm64-cross", "libgcc-s1-arm64-cross")
_TAGS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")
_IN_WHEEL = re.compile(r"onnxruntime/capi/libonnxruntime\.so[.\d]*")
_FOR_JAVA = "libonnxruntime4j_jni.so"
_LIMIT_S = 900.0


def installed_version() -> str:
    """The version of ONNX Runtime that this machine measures with, and so the phones.

    Raises: DeviceError if none is installed.
    """
    for name in ("onnxruntime", "onnxruntime-gpu"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    raise DeviceError("onnxruntime is not installed; type `pip install onnxruntime`")


def runtime_of(library: Path) -> str:
    """Name and version, such as "onnxruntime 1.32.0", by the version of the library's symbols."""
    found = re.search(rb"VERS_(\d+\.\d+\.\d+)\0", library.read_bytes())
    return f"onnxruntime {found.group(1).decode()}" if found else "onnxruntime of unknown version"


def from_wheel(abi: Abi, version: str, folder: Path) -> None:
    """Puts ONNX Runtime for Linux into `folder`: out of the installed wheel, else of the one for that processor.

    Raises: DeviceError if it cannot be had.
    """
    if native(abi) and (installed := _installed()) is not None:
        shutil.copyfile(installed, folder / LIBRARY)
        return
    with tempfile.TemporaryDirectory(prefix="amc-wheel-") as temporary:
        platforms = [word for tag in _TAGS for word in ("--platform", f"{tag}_{machine(abi)}")]
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", *platforms]
        remedy = "go online once, or give Android's ONNX Runtime with --aar FILE"
        _run([*command, f"onnxruntime=={version}"], Path(temporary), f"ONNX Runtime {version} for {abi}", remedy)
        for wheel in Path(temporary).glob("*.whl"):
            _from_zip(wheel, [name for name in _names(wheel) if _IN_WHEEL.fullmatch(name)][:1], folder, LIBRARY)
    if not (folder / LIBRARY).is_file():
        raise DeviceError(
            f"the wheel of onnxruntime {version} holds no separate library; install onnxruntime 1.20 or newer"
        )


def from_aar(aar: Path, abi: Abi, folder: Path) -> None:
    """Puts Android's ONNX Runtime, and what lies beside it, into `folder`.

    Raises: DeviceError if there is none for that ABI in the archive.
    """
    wanted = [name for name in _names(aar) if re.fullmatch(rf"jni/{re.escape(abi)}/lib[\w.+-]+\.so", name)]
    if f"jni/{abi}/{LIBRARY}" not in wanted:
        raise DeviceError(f"{aar} holds no jni/{abi}/{LIBRARY}; give the AAR of onnxruntime-android")
    for name in wanted:
        if PurePosixPath(name).name != _FOR_JAVA:
            _from_zip(aar, [name], folder, PurePosixPath(name).name)


def glibc_from_folder(libraries: Path, folder: Path) -> None:
    """Copies loader and C library for arm64 out of a folder that the user names.

    Raises: DeviceError if one is missing or is not for arm64.
    """
    for name in _GLIBC:
        places = [place for place in (libraries / name, libraries / "lib" / name) if place.is_file()]
        if not places:
            raise DeviceError(f"there is no {name} in {libraries}; name a folder with {', '.join(_GLIBC)}")
        with places[0].open("rb") as stream:
            head = stream.read(20)
        if head[:5] != b"\x7fELF\x02" or head[18:20] != b"\xb7\x00":
            raise DeviceError(f"{places[0]} is not a library for arm64; name a folder with arm64's libraries")
        shutil.copyfile(places[0], folder / name)


def glibc_from_debian(folder: Path) -> None:
    """Puts loader and C library for arm64 into `folder`, out of Debian's packages; nothing is installed.

    Raises: DeviceError where there is no apt, or it has not got them.
    """
    remedy = f"type `apt-get update` as root and try again, or name a folder with {LOADER} and the rest by --libraries"
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise DeviceError(
                f"arm64's C library comes out of Debian's packages, and there is no {program} here; "
                f"name a folder with {', '.join(_GLIBC)} by --libraries"
            )
    with tempfile.TemporaryDirectory(prefix="amc-debian-") as temporary:
        place = Path(temporary)
        _run(["apt-get", "--quiet", "download", *_DEBIAN_PACKAGES], place, "arm64's C library", remedy)
        for package in sorted(place.glob("*.deb")):
            _run(["dpkg-deb", "-x", str(package), str(place / "x")], place, f"unpacked {package.name}", remedy)
        glibc_from_folder(place / "x" / "usr" / "aarch64-linux-gnu" / "lib", folder)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file that the user names. Raises: DeviceError if it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DeviceError(f"cannot read {path}: {error.strerror}; check its name") from error


def folder_sha256(libraries: Path) -> str:
    """SHA-256 over the loader and C library in a folder that the user names. Missing ones are found out later."""
    places = [place for name in _GLIBC for place in (libraries / name, libraries / "lib" / name) if place.is_file()]
    return hashlib.sha256("".join(map(file_sha256, places)).encode()).hexdigest()


def _installed() -> Path | None:
    spec = importlib.util.find_spec("onnxruntime")
    folders = [Path(place) for place in (spec.submodule_search_locations or [])] if spec is not None else []
    found = [path for folder in folders for path in sorted(folder.glob("capi/libonnxruntime.so*")) if path.is_file()]
    return found[0] if found else None


def _names(archive: Path) -> Sequence[str]:
    try:
        with zipfile.ZipFile(archive) as opened:
            return opened.namelist()
    except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
        raise DeviceError(f"{archive} cannot be read as a ZIP archive: {first_line(error)}; get it again") from error


def _from_zip(archive: Path, names: Sequence[str], folder: Path, name: str) -> None:
    try:
        with zipfile.ZipFile(archive) as opened:
            for member in names:
                with opened.open(member) as source, (folder / name).open("wb") as target:
                    shutil.copyfileobj(source, target)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:  # damaged, encrypted, cut off
        raise DeviceError(f"{archive} is damaged: {first_line(error)}; get it again") from error


def _run(command: Sequence[str], folder: Path, what: str, remedy: str) -> None:
    try:
        ended = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=_LIMIT_S, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise DeviceError(f"{what} cannot be had ({first_line(error)}); {remedy}") from error
    if ended.returncode != 0:
        errors = [line for line in ended.stderr.splitlines() if line.lower().startswith(("error", "e:"))]
        said = (errors or ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"])[-1]
        raise DeviceError(f"{what} cannot be had ({said.strip()[:200]}); {remedy}")

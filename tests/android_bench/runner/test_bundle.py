"""Bundles for every kind of device: what is in them, that the programs run, one clear line where none can be made."""

from __future__ import annotations

import importlib.util
import os
import shutil
import struct
import subprocess
import zipfile
from pathlib import Path

import pytest

from amc_mobile.errors import DeviceError
from android_bench.bundle import RUNNER, Bundle, bundle, main
from android_bench.runner import libraries
from android_bench.runner.compile import compile_runner, native, toolchain
from android_bench.runner.libraries import LIBRARY, LOADER
from android_bench.runner.manifest import Step
from tests.android_bench.runner.running import Program, convolution, expected, outputs, saved

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc")
needs_zig = pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="ziglang is not installed")
needs_x86 = pytest.mark.skipif(not native("x86_64"), reason="this machine is no x86-64 Linux")

# What Android's C library does at the beginning, over the one that is here.
BIONIC = """
#include <errno.h>
#include <stdlib.h>
int *__errno(void) { return &errno; }
void __libc_init(void **stack, void (*onexit)(void), int (*main)(int, char **, char **), void ***structors) {
    int count = *(long *)stack;
    char **arguments = (char **)(stack + 1);
    if (onexit || structors[0] || structors[1] || structors[2]) abort();
    exit(main(count, arguments, arguments + count + 1));
}
"""


def archive(path: Path, abi: str, library: Path | bytes) -> Path:
    """An AAR as onnxruntime-android's is laid out."""
    with zipfile.ZipFile(path, "w") as opened:
        opened.writestr("AndroidManifest.xml", "<manifest/>")
        opened.writestr(f"jni/{abi}/{LIBRARY}", library if isinstance(library, bytes) else library.read_bytes())
        opened.writestr(f"jni/{abi}/libonnxruntime4j_jni.so", b"for Java")
        opened.writestr(f"jni/{abi}/libbeside.so", b"beside")
        opened.writestr("jni/../../evil.so", b"evil")
        opened.writestr("headers/onnxruntime_c_api.h", "")
    return path


def elf(path: Path) -> tuple[int, int]:
    """Type (3: position independent) and machine (183: arm64) of a program."""
    kind, machine = struct.unpack_from("<HH", path.read_bytes(), 16)
    return kind, machine


def works(program: Program, folder: Path, command: list[str]) -> None:
    """The program, started by `command` and a manifest, answers as Python's ONNX Runtime does."""
    manifest = program.manifest(saved(convolution(), folder / "m.onnx"), steps=(Step(0, "outputs", 1, 1),))
    starter = folder / "start"
    starter.write_text(f'#!/bin/sh\nexec {" ".join(command)} "$@"\n', encoding="utf-8")
    starter.chmod(0o755)
    (timed,) = Program(starter, program.library).run(manifest, folder).timed()
    assert outputs(timed, folder)[0].tobytes() == expected(convolution())[0].tobytes()


def test_the_bundle_of_this_machine(x86_bundle: Bundle, tmp_path: Path):
    assert x86_bundle.files.keys() == {RUNNER, LIBRARY}
    assert x86_bundle.executables == {RUNNER}
    assert x86_bundle.runtime == f"onnxruntime {libraries.installed_version()}"
    assert x86_bundle.build.endswith(", glibc")
    assert len(x86_bundle.digest) == 64
    assert os.access(x86_bundle.files[RUNNER], os.X_OK)
    assert x86_bundle.command("/a b", "m.txt", wrapper=["emu", "-cpu"]) == "emu -cpu '/a b/runner' m.txt"
    assert x86_bundle.library("/a b") == f"/a b/{LIBRARY}"


@needs_x86
def test_made_once_then_offline(x86_bundle: Bundle, monkeypatch: pytest.MonkeyPatch):
    cache = x86_bundle.files[RUNNER].parents[1]
    monkeypatch.setattr(libraries, "_installed", lambda: pytest.fail("looked for again"))
    said: list[str] = []
    again = bundle("x86_64", compiler="gcc" if shutil.which("gcc") else "zig", cache=cache, progress=said.append)
    assert again == x86_bundle
    assert said == []


@needs_x86
@needs_zig
def test_zig_makes_a_program_that_runs(program: Program, tmp_path: Path):
    compile_runner(toolchain("x86_64", "zig", "glibc"), tmp_path / RUNNER)
    works(program, tmp_path, [str(tmp_path / RUNNER)])


@needs_zig
def test_zig_makes_a_program_for_arm64(tmp_path: Path):
    tools = toolchain("arm64-v8a", "auto", "glibc")
    assert tools.name.startswith("zig ")
    compile_runner(tools, tmp_path / RUNNER)
    assert elf(tmp_path / RUNNER)[1] == 183
    assert b"ld-linux-aarch64.so.1\0" in (tmp_path / RUNNER).read_bytes()


@needs_zig
@pytest.mark.parametrize("abi", ["arm64-v8a", "x86_64"])
def test_without_the_ndk_a_program_for_android(abi, program: Program, tmp_path: Path, monkeypatch):
    """Android's loader is not here: this one's loads it, with what Android's C library is called and begins by."""
    monkeypatch.delenv("ANDROID_NDK_HOME", raising=False)
    tools = toolchain(abi, "auto", "bionic")
    assert (tools.kind, tools.name.endswith(", bionic")) == ("zig", True)
    compile_runner(tools, tmp_path / RUNNER)
    text = (tmp_path / RUNNER).read_bytes()
    assert elf(tmp_path / RUNNER) == (3, {"arm64-v8a": 183, "x86_64": 62}[abi])
    assert b"/system/bin/linker64\0" in text
    assert b"libc.so\0" in text
    assert b"libc.so.6" not in text
    if not native(abi) or shutil.which("gcc") is None:
        return
    (tmp_path / "bionic.c").write_text(BIONIC, encoding="utf-8")
    for name, rest in (("libc.so", ["bionic.c"]), ("libdl.so", ["-x", "c", "/dev/null"])):
        command = ["gcc", "-w", "-shared", "-fPIC", f"-Wl,-soname,{name}", *rest, "-o", name]
        subprocess.run(command, cwd=tmp_path, check=True)
    loader = next(path for path in ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1") if Path(path).exists())
    works(program, tmp_path, [loader, "--library-path", str(tmp_path), str(tmp_path / RUNNER)])


@needs_x86
@needs_gcc
def test_an_ndk_and_an_archive_of_android(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The NDK's compiler is played by gcc, so that its program runs here."""
    tools = tmp_path / "ndk" / "toolchains" / "llvm" / "prebuilt" / "linux-x86_64" / "bin"
    tools.mkdir(parents=True)
    (tmp_path / "ndk" / "source.properties").write_text("Pkg.Desc = NDK\nPkg.Revision = 27.0.1\n", encoding="utf-8")
    (tools / "x86_64-linux-android24-clang").write_text('#!/bin/sh\nexec gcc "$@"\n', encoding="utf-8")
    (tools / "x86_64-linux-android24-clang").chmod(0o755)
    monkeypatch.setenv("ANDROID_NDK_HOME", str(tmp_path / "ndk"))
    aar = archive(tmp_path / "a.aar", "x86_64", program.library)
    made = bundle("x86_64", aar=aar, cache=tmp_path / "cache")
    assert made.files.keys() == {RUNNER, LIBRARY, "libbeside.so"}
    assert (made.build, made.runtime) == ("ndk 27.0.1, bionic", f"onnxruntime {libraries.installed_version()}")
    folder = str(made.files[RUNNER].parent)
    assert made.command(folder, "m") == f"LD_LIBRARY_PATH={folder} {folder}/runner m"
    works(Program(made.files[RUNNER], made.files[LIBRARY]), tmp_path, [f"{folder}/{RUNNER}"])
    assert not list(tmp_path.rglob("evil.so"))


def test_arm64s_c_library_out_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Loader and C library as the user names them, ONNX Runtime from what is kept: nothing is fetched."""
    arm64 = b"\x7fELF\x02" + bytes(13) + b"\xb7\x00"
    folder = tmp_path / "arm64" / "lib"
    folder.mkdir(parents=True)
    for name in libraries._GLIBC:
        (folder / name).write_bytes(arm64 + name.encode())
    monkeypatch.setattr(libraries, "_installed", lambda: None)
    monkeypatch.setattr(
        libraries, "from_wheel", lambda abi, version, place: (place / LIBRARY).write_bytes(b"VERS_1.2.3\0")
    )
    tools = "zig" if importlib.util.find_spec("ziglang") else "gcc"
    made = bundle("arm64-v8a", compiler=tools, libraries=tmp_path / "arm64", cache=tmp_path / "cache")
    assert made.files.keys() == {RUNNER, LIBRARY, *libraries._GLIBC}
    assert made.executables == {RUNNER, LOADER}
    assert made.runtime == "onnxruntime 1.2.3"
    assert made.command("/d", "m", wrapper=["qemu"]) == f"qemu /d/{LOADER} --library-path /d /d/{RUNNER} m"
    (folder / "libm.so.6").write_bytes(b"\x7fELF\x02" + bytes(13) + b"\x3e\x00")
    with pytest.raises(DeviceError, match=r"libm.so.6 is not a library for arm64"):
        bundle("arm64-v8a", compiler=tools, libraries=tmp_path / "arm64", cache=tmp_path / "cache")
    (folder / "libm.so.6").unlink()
    with pytest.raises(DeviceError, match=r"there is no libm.so.6 in"):
        bundle("arm64-v8a", compiler=tools, libraries=tmp_path / "arm64", cache=tmp_path / "cache")


def test_archives_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    good = archive(tmp_path / "x86.aar", "x86_64", b"library")
    damaged = archive(tmp_path / "damaged.aar", "arm64-v8a", b"library" * 100)
    data = damaged.read_bytes()
    damaged.write_bytes(data.replace(b"library" * 100, b"librarz" * 100))
    text = tmp_path / "text.aar"
    text.write_text("no archive", encoding="utf-8")
    for path, message in (
        (good, f"holds no jni/arm64-v8a/{LIBRARY}"),
        (damaged, "is damaged"),
        (text, "cannot be read as a ZIP archive"),
        (tmp_path, "cannot be read as a ZIP archive"),
        (tmp_path / "missing.aar", "cannot be read as a ZIP archive"),
    ):
        with pytest.raises(DeviceError, match=message) as caught:
            libraries.from_aar(path, "arm64-v8a", tmp_path)
        assert "\n" not in str(caught.value)
    with pytest.raises(DeviceError, match="cannot read"):
        libraries.file_sha256(tmp_path / "missing.aar")


def test_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setattr(libraries, "native", lambda abi: False)
    with pytest.raises(DeviceError, match=r"ONNX Runtime .* for arm64-v8a cannot be had \(.*--aar FILE") as caught:
        libraries.from_wheel("arm64-v8a", libraries.installed_version(), tmp_path)
    assert "\n" not in str(caught.value)


def test_without_debian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match=r"there is no apt-get here; name a folder with"):
        libraries.glibc_from_debian(tmp_path)
    for name, said in (
        ("apt-get", "echo 'E: Unable to locate package libc6-arm64-cross' >&2; exit 100"),
        ("dpkg-deb", ""),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{said}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    with pytest.raises(DeviceError, match=r"cannot be had \(E: Unable to locate .*apt-get update") as caught:
        libraries.glibc_from_debian(tmp_path)
    assert "\n" not in str(caught.value)


def test_compilers_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("ANDROID_NDK_HOME", raising=False)
    monkeypatch.setattr("importlib.metadata.version", _not_found)
    for abi, compiler, libc, message in (
        ("mips", "auto", "glibc", "there is no runner for 'mips'"),
        ("x86_64", "tcc", "glibc", "there is no compiler 'tcc'"),
        ("x86_64", "auto", "glibc", "pip install ziglang"),
        ("x86_64", "zig", "bionic", "pip install ziglang"),
        ("x86_64", "gcc", "glibc", "there is no gcc for x86_64"),
        ("arm64-v8a", "gcc", "glibc", "there is no gcc for arm64-v8a"),
        ("arm64-v8a", "gcc", "bionic", "gcc has no Android libraries"),
        ("arm64-v8a", "ndk", "glibc", "--aar FILE"),
        ("arm64-v8a", "ndk", "bionic", "ANDROID_NDK_HOME is not set"),
    ):
        with pytest.raises(DeviceError, match=message):
            toolchain(abi, compiler, libc)
    monkeypatch.setenv("ANDROID_NDK_HOME", str(tmp_path))
    with pytest.raises(DeviceError, match="there is no aarch64-linux-android24-clang in"):
        toolchain("arm64-v8a", "ndk", "bionic")


def _not_found(name: str) -> str:
    raise importlib.metadata.PackageNotFoundError(name)


@needs_gcc
@needs_x86
def test_a_compiler_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "gcc").write_text(
        '#!/bin/sh\n[ "$1" = -dumpfullversion ] && echo 9.9 && exit\necho "runner.c:1: error: no" >&2\nexit 1\n'
    )
    (tmp_path / "gcc").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(DeviceError, match=r"gcc 9.9, glibc cannot compile the runner: runner.c:1: error: no"):
        bundle("x86_64", compiler="gcc", cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


@needs_x86
@needs_gcc
def test_the_command_prints_what_was_made(tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert main(["--abi", "x86_64", "--compiler", "gcc"]) == 0
    said = capsys.readouterr().out
    for word in ("folder ", "digest ", "x86_64", "gcc ", "onnxruntime ", "runner"):
        assert word in said
    assert main(["--abi", "mips"]) == 3
    assert capsys.readouterr().err.startswith("error: there is no runner for 'mips'")


@pytest.mark.slow
@needs_zig
def test_the_whole_bundle_for_phones(tmp_path: Path):
    try:
        made = bundle("arm64-v8a", compiler="zig", cache=tmp_path)
    except DeviceError as reason:
        pytest.skip(str(reason))
    assert made.files.keys() == {RUNNER, LIBRARY, *libraries._GLIBC}
    assert {elf(path)[1] for path in made.files.values()} == {183}
    assert made.runtime == f"onnxruntime {libraries.installed_version()}"
    assert bundle("arm64-v8a", compiler="zig", cache=tmp_path) == made

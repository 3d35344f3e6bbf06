"""The real counterparts of the phone path: gets them, lists them with their versions, runs the tests against them.

    python -m tests.phone.counterparts [--list] [PYTEST ARGUMENTS]      # what `make test-phone` does

They are Debian's: adb 29 (bookworm), adb 34 and the real adbd 34 (trixie), qemu 10 (trixie), unpacked under the user's
cache (XDG_CACHE_HOME), nothing installed; and the runner's bundles for both processors. The tests run in a network of
their own (namespace.py), since the real adbd lets everybody in. What cannot be had is skipped, and the list says why.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass

from amc_mobile.errors import AmcError
from android_bench.bundle import Abi, Bundle, bundle
from android_bench.runner.cache import default_cache
from tests.phone import namespace
from tests.phone.packages import Suite, Unavailable

FOLDER = default_cache() / "counterparts"
_TOOLS = "usr/lib/android-sdk/platform-tools"
_PACKAGES = {"bookworm": ["adb"], "trixie": ["adb", "adbd"], "trixie-qemu": ["qemu-user"]}
_UNWANTED = {"trixie-qemu": r"usr/bin/qemu-(?!aarch64$).*"}


@dataclass(frozen=True, slots=True)
class Counterpart:
    """A program that ours is tested against, and how it is started."""

    name: str
    version: str
    command: tuple[str, ...]


def suite(name: str) -> Suite:
    """The packages of one release that are wanted for one purpose."""
    return Suite(name.partition("-")[0], FOLDER / name, _UNWANTED.get(name, ""))


def adb(release: str) -> Counterpart:
    """The adb client of a release. Raises: Unavailable."""
    return _counterpart("adb", release, "adb", f"{_TOOLS}/adb")


def adbd() -> Counterpart:
    """The real daemon. Raises: Unavailable."""
    return _counterpart("adbd", "trixie", "adbd", f"{_TOOLS}/adbd")


def qemu() -> Counterpart:
    """An arm64 processor for programs. Raises: Unavailable."""
    found = _counterpart("qemu-aarch64", "trixie-qemu", "qemu-user", "usr/bin/qemu-aarch64")
    return Counterpart(found.name, found.version, (*found.command, "-cpu", "cortex-a76"))


def _counterpart(name: str, release: str, package: str, path: str) -> Counterpart:
    found = suite(release)
    try:
        version = found.version(package)
    except (OSError, StopIteration) as error:
        raise Unavailable("it was not unpacked: type `make test-phone`") from error
    return Counterpart(name, version, found.command(path))


def runner(abi: Abi) -> Bundle:
    """The bundle for one processor, from the cache. Raises: Unavailable."""
    try:
        return bundle(abi)
    except AmcError as error:
        raise Unavailable(str(error)) from error


def prepare() -> None:
    """Gets everything that can be had, and prints one line for each: its version, or why it is missing."""
    for name, packages in _PACKAGES.items():
        try:
            suite(name).require(packages)
        except Unavailable as error:
            print(f"  {name} ({', '.join(packages)}): {error}")
    print("counterparts:")
    _show("adb 29 (bookworm)", lambda: _told(adb("bookworm")))
    _show("adb 34 (trixie)", lambda: _told(adb("trixie")))
    _show("adbd 34 (trixie), the real daemon", lambda: _told(adbd()))
    _show("qemu-user (trixie)", lambda: _told(qemu()))
    _show("runner for arm64-v8a", lambda: _built(runner("arm64-v8a")))
    _show("runner for x86_64", lambda: _built(runner("x86_64")))
    _show("network of its own", lambda: " ".join(namespace.way_in()) or _none())


def _show(what: str, found: Callable[[], str]) -> None:
    try:
        print(f"  {what:36}{found()}", flush=True)
    except Unavailable as error:
        print(f"  {what:36}skipped: {error}", flush=True)


def _told(counterpart: Counterpart) -> str:
    return f"{counterpart.name} {counterpart.version}"


def _built(made: Bundle) -> str:
    return f"{made.runtime}, {made.build}, {made.digest[:12]}"


def _none() -> str:
    raise Unavailable("neither root, nor user namespaces, nor sudo without a password: the real adbd is not started")


def main(arguments: list[str]) -> int:
    """Prepares, then runs the tests. Their exit code."""
    prepare()
    if "--list" in arguments:
        return 0
    pytest = [sys.executable, "-m", "pytest", "-m", "phone", "-rs", "tests/phone", *arguments]
    if not namespace.way_in():
        os.execv(sys.executable, pytest)  # noqa: S606 - the rest of this program is pytest
    temporary = FOLDER / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    try:
        return namespace.inside(pytest, temporary)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

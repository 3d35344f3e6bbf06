"""Debian packages in a private folder: fetched with apt's own sources and checks, unpacked, never installed.

The machine's sources say where Debian's mirror is; only the suite is changed. apt's whole state is in the folder, and
it is told that nothing is installed, so that every library comes along, libc too. Needs no root.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

_SOURCES = (Path("/etc/apt/sources.list"), Path("/etc/apt/sources.list.d"))
_SUITES = (
    r"(bookworm|trixie|forky|duke|sid|stable|oldstable|testing|unstable)(-updates|-backports)?"  # Debian's own names
)
_OPTIONS = 'Acquire::Languages "none";\nAPT::Install-Recommends "false";\nAPT::Sandbox::User "";\n'
_HOOKS = ("APT::Update::Post-Invoke", "APT::Update::Post-Invoke-Success", "DPkg::Post-Invoke", "DPkg::Pre-Install-Pkgs")
_LIMIT_S = 600.0


class Unavailable(Exception):
    """A package cannot be had here, and why."""


class Suite:
    """One release of Debian, as far as some packages need it, unpacked under `folder`/root."""

    def __init__(self, name: str, folder: Path, unwanted: str = "") -> None:
        """`unwanted`: regular expression of files in the root that are removed again."""
        self.name = name
        self._unwanted = unwanted
        self.folder = folder
        self.root = folder / "root"

    def require(self, packages: Sequence[str]) -> None:
        """Fetches and unpacks packages with all they depend on, unless that was done. Raises: Unavailable."""
        done = self.folder / "unpacked"
        if done.exists() and done.read_text().split() == list(packages):
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        self._prepare()
        self._update()
        self._apt("install", "--yes", "--download-only", *packages)
        archives = sorted((self.folder / "cache/archives").glob("*.deb"))
        with (self.folder / "versions").open("w") as versions:
            for archive in archives:
                _run(["dpkg-deb", "--extract", str(archive), str(self.root)])
                said = _run(["dpkg-deb", "--show", "--showformat", "${Package} ${Version}\n", str(archive)])
                versions.write(said.split(":", 1)[-1] if said.startswith("1:") else said)
        shutil.rmtree(self.folder / "cache")
        for path in list(self.root.rglob("*")) if self._unwanted else ():
            if re.fullmatch(self._unwanted, str(path.relative_to(self.root))) and (path.is_symlink() or path.is_file()):
                path.unlink()
        done.write_text(" ".join(packages))

    def version(self, package: str) -> str:
        """The version of a package that was unpacked: "34.0.5-12"."""
        lines = (line.split() for line in (self.folder / "versions").read_text().splitlines())
        return next(re.sub(r"^\d+:", "", version) for name, version in lines if name == package)

    def command(self, path: str) -> tuple[str, ...]:
        """How a program of the suite is started: by the suite's own loader, with the suite's own libraries.

        A program that came without a C library needs none.
        """
        libraries = self.root / "usr/lib" / f"{os.uname().machine}-linux-gnu"
        loader = min(self.root.glob("**/ld-linux-*.so.*"), default=None)
        if loader is None:
            return (str(self.root / path),)
        old = self.root / "lib" / libraries.name  # where Debian 12 still has some
        folders = [libraries, libraries / "android", old]
        return str(loader), "--library-path", ":".join(map(str, folders)), str(self.root / path)

    def _prepare(self) -> None:
        for name in ("state/lists/partial", "cache/archives/partial", "root"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "status").touch()
        settings = {
            "Dir::State": "state",
            "Dir::State::status": "status",
            "Dir::Cache": "cache",
            "Dir::Etc::sourcelist": "sources.list",
            "Dir::Etc::sourceparts": "none",
        }
        (self.folder / "apt.conf").write_text(
            "".join(f"#clear {hook};\n" for hook in _HOOKS)
            + "".join(f'{key} "{self.folder / value}";\n' for key, value in settings.items())
            + _OPTIONS
        )

    def _update(self) -> None:
        """Asks the sources in turn: one that is named like a release of Debian may still be somebody else's."""
        candidates = sources(self.name)
        for line in candidates:
            (self.folder / "sources.list").write_text(f"{line}\n")
            try:
                self._apt("update", "--error-on=any")
                break
            except Unavailable:
                if line == candidates[-1]:
                    raise

    def _apt(self, *words: str) -> None:
        _run(["apt-get", "--quiet", *words], APT_CONFIG=str(self.folder / "apt.conf"))


def sources(suite: str) -> list[str]:
    """Lines of a sources.list for that suite, from where this machine has Debian. Raises: Unavailable."""
    found = dict.fromkeys(
        f"deb {options}{uri} {suite} main"
        for options, uri, suites in _entries()
        if any(re.fullmatch(_SUITES, name) for name in suites.split())
    )
    if not found:
        raise Unavailable(
            "this machine's apt has no source of Debian (it is another system, or its sources are elsewhere)"
        )
    return list(found)


def _entries() -> Iterator[tuple[str, str, str]]:
    """Options, address and suites of every source of apt that has Debian's component main."""
    for path in _files():
        text = path.read_text(errors="replace")
        if path.suffix == ".list":
            for found in re.finditer(r"(?m)^\s*deb\s+(\[[^]]*\]\s+)?(\S+)\s+(\S+)\s+(.*)$", text):
                if "main" in found[4].split():
                    yield found[1] or "", found[2], found[3]
        else:
            for block in re.split(r"\n\s*\n", text):
                fields = {
                    key.lower(): value for key, value in re.findall(r"(?m)^([\w-]+):[ \t]*(.*(?:\n[ \t].*)*)", block)
                }
                if "main" not in fields.get("components", "").split() or fields.get("enabled", "yes").strip() == "no":
                    continue
                key = fields.get("signed-by", "").strip()
                for uri in fields.get("uris", "").split():
                    yield f"[signed-by={key}] " if key.startswith("/") else "", uri, fields.get("suites", "")


def _files() -> Iterator[Path]:
    for place in _SOURCES:
        if place.is_dir():
            yield from sorted(path for path in place.iterdir() if path.suffix in (".list", ".sources"))
        elif place.exists():
            yield place


def _run(command: Sequence[str], **environment: str) -> str:
    """What a program says. Raises: Unavailable, with its last complaint and without addresses."""
    try:
        done = subprocess.run(
            command,
            env=os.environ | {"LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"} | environment,
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{command[0]} does not do it: {error}") from error
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith(("E:", "dpkg"))] or [
            done.stderr.strip()[-200:]
        ]
        raise Unavailable(re.sub(r"\w+://\S+", "the mirror", f"{command[0]}: {said[0]}"))
    return done.stdout

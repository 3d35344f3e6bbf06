"""The folder that holds a fake phone's files: its paths become paths in it, and back again in what commands print."""

from __future__ import annotations

import os
import posixpath
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

TREES = ("data", "sdcard", "storage", "sys", "system", "vendor", "tmp", "proc/cpuinfo", "proc/meminfo")
# What Android's toolbox and toybox have, and this machine may lend to a phone.
TOOLS = (
    *(
        "awk",
        "base64",
        "basename",
        "cat",
        "chmod",
        "cmp",
        "comm",
        "cp",
        "cut",
        "date",
        "dd",
        "df",
        "diff",
        "dirname",
        "du",
    ),
    *(
        "echo",
        "env",
        "expr",
        "false",
        "find",
        "flock",
        "free",
        "grep",
        "gzip",
        "head",
        "hostname",
        "id",
        "kill",
        "ln",
        "ls",
    ),
    *(
        "md5sum",
        "mkdir",
        "mkfifo",
        "mktemp",
        "mv",
        "nice",
        "nl",
        "nohup",
        "nproc",
        "od",
        "paste",
        "printf",
        "ps",
        "pwd",
    ),
    *(
        "readlink",
        "realpath",
        "rm",
        "rmdir",
        "sed",
        "seq",
        "setsid",
        "sh",
        "sha1sum",
        "sha256sum",
        "sleep",
        "sort",
        "split",
    ),
    *(
        "stat",
        "sync",
        "tail",
        "tar",
        "taskset",
        "tee",
        "test",
        "time",
        "timeout",
        "touch",
        "tr",
        "true",
        "truncate",
        "tty",
    ),
    *("uname", "uniq", "uptime", "wc", "which", "whoami", "xargs", "xxd", "yes", "zcat"),
)


class Sandbox:
    """Translates between a phone's paths and this machine's. `real`: trees or parts of them that are not its."""

    def __init__(self, root: Path, real: Iterable[str] = ()) -> None:
        self.root = root.absolute()
        if not re.fullmatch(r"[\w./+-]+", str(self.root)):
            raise ValueError(f"a shell would not take the sandbox's path as one word: {self.root}")
        self._real = tuple(real)
        trees = [tree for tree in TREES if f"/{tree}" not in self._real]
        spared = "".join(rf"(?!{re.escape(tree)}(?![\w.-]))" for tree in self._real)  # may lie below one of them
        self._phone_path = re.compile(
            rf"{re.escape(str(self.root))}(?![\w.-])|(?<![\w.\-/*?}}~]){spared}/(?:{'|'.join(trees)})(?![\w.-])".encode()
        )

    def path(self, phone_path: str) -> Path:
        """Where a file of the phone lies here, whatever dots are in its path."""
        clean = posixpath.normpath(posixpath.join("/", phone_path)).lstrip("/")
        ours = clean.startswith(TREES) or not clean.startswith("proc/")
        if not ours or any(f"/{clean}".startswith(tree) for tree in self._real):
            return Path("/", clean)
        return self.root / clean

    def command(self, text: bytes) -> bytes:
        """A command line with the phone's paths made this machine's."""
        root = os.fsencode(self.root)
        return self._phone_path.sub(lambda found: found[0] if found[0] == root else root + found[0], text)

    def write(self, phone_path: str, text: str | bytes) -> None:
        """Puts a file there, whole: who reads it meanwhile sees the old or the new one."""
        path = self.path(phone_path)
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(path.name + ".new")
        beside.write_bytes(text.encode() if isinstance(text, str) else text)
        beside.replace(path)

    def script(self, name: str, text: str) -> None:
        """Puts a command on the phone's PATH, in place of this machine's."""
        path = self.path(f"/system/bin/{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def lend(self, without: Iterable[str] = ()) -> None:
        """Puts this machine's tools of the same name as a phone's on its PATH."""
        folder = self.path("/system/bin")
        folder.mkdir(parents=True, exist_ok=True)
        for name in TOOLS:
            found = shutil.which(name)
            if found and not (folder / name).exists():
                (folder / name).symlink_to(found)
        for name in without:
            self.remove(f"/system/bin/{name}")

    def remove(self, phone_path: str) -> None:
        """Removes a file or a folder of the phone, if it is there."""
        path = self.path(phone_path)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def seal(self, phone_path: str) -> None:
        """Makes a file unreadable. For root, who reads everything, reading it fails another way."""
        path = self.path(phone_path)
        if os.geteuid() == 0:
            path.unlink()
            path.symlink_to("/proc/self/mem")
        else:
            path.chmod(0)


class Backwards:
    """Output of a command with this machine's paths made the phone's, however it is cut into pieces."""

    def __init__(self, root: Path) -> None:
        self._root = os.fsencode(root)
        self._path = re.compile(re.escape(self._root) + b"/?")
        self._rest = b""

    def turn(self, data: bytes) -> bytes:
        """What can be said for sure; the start of a path is held back until its rest comes."""
        data = self._rest + data
        said, place = [], 0
        for found in self._path.finditer(data):
            if found.end() == len(data) and not found[0].endswith(b"/"):
                break  # a slash may follow
            said += [data[place : found.start()], b"/"]
            place = found.end()
        longest = min(len(self._root), len(data) - place)
        held = next((n for n in range(longest, 0, -1) if data.endswith(self._root[:n])), 0)
        self._rest = data[len(data) - held :]
        return b"".join([*said, data[place : len(data) - held]])

    def end(self) -> bytes:
        """What was held back."""
        rest, self._rest = self._rest, b""
        return self._path.sub(b"/", rest)

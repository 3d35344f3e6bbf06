"""Files of ours on one phone, named by their content: each is sent once, and has its name only after it was checked."""

from __future__ import annotations

import hashlib
import posixpath
import re
import secrets
from collections.abc import Callable, Mapping, Sequence

from amc_mobile.errors import DeviceError
from android_bench.adb import Adb, DiskFull, Refused, ShellResult, printable, quote

_QUICK_S = 30.0
_HASHED_BYTES_PER_S = 10_000_000  # by the slowest phone
_NAMES_AT_ONCE = 400  # in one command
_SENDS = 3  # of one file that arrives damaged
_MISMATCH, _NO_TOOL = 8, 9  # exit codes of our own scripts
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,16}")
_LISTED = re.compile(r"(\d{1,12}) (\d{1,15}) ([0-9a-f]{64}[A-Za-z0-9.]*)")


class Store:
    """Content-addressed files in one folder of a phone."""

    def __init__(self, adb: Adb, folder: str) -> None:
        """Raises: DeviceError for a folder that is no absolute path below another."""
        parts = [part for part in folder.split("/") if part]
        if not folder.startswith("/") or len(parts) < 2 or ".." in parts:
            raise DeviceError(f"'{printable(folder)}' is no folder for our files on a phone; use /data/local/tmp/NAME")
        self.folder = "/" + "/".join(parts)
        self._adb = adb
        self._part = f".{secrets.token_hex(4)}.part"  # ends the names of our files on their way

    def ensure(self, files: Mapping[str, bytes], progress: Callable[[int, int], None] | None = None) -> dict[str, str]:
        """Where each of the files is on the phone, by its name; what is not there yet is sent.

        The place is its SHA-256 with the suffix of its name. `progress` gets the bytes sent and to be sent in all.
        Raises: Refused (for a full disk: what was needed and what is free), ConnectionLost, DeviceError.
        """
        places = {name: f"{hashlib.sha256(data).hexdigest()}{_suffix(name)}" for name, data in files.items()}
        contents = {places[name]: data for name, data in files.items()}
        there = self._sizes(list(contents))
        missing = {place: data for place, data in contents.items() if there.get(place) != len(data)}
        total_bytes, sent_bytes = sum(map(len, missing.values())), 0
        for place, data in missing.items():

            def told(done: int, _all: int, before: int = sent_bytes) -> None:
                if progress:
                    progress(before + done, total_bytes)

            self._send(place, data, told, total_bytes - sent_bytes)
            sent_bytes += len(data)
        return {name: posixpath.join(self.folder, place) for name, place in places.items()}

    def trim(self, most_bytes: int) -> int:
        """Removes the files used longest ago until no more than `most_bytes` are left; answers the bytes removed."""
        said = self._run(f"cd {quote(self.folder)} 2>/dev/null && stat -c '%Y %s %n' -- * 2>/dev/null")
        lines = map(_LISTED.fullmatch, said.stdout.decode("utf-8", "replace").splitlines())
        files = sorted((int(line[1]), int(line[2]), line[3]) for line in lines if line)
        left_bytes, removed = sum(size_bytes for _, size_bytes, _ in files), []
        before_bytes = left_bytes
        for _, size_bytes, name in files:
            if left_bytes <= most_bytes:
                break
            left_bytes -= size_bytes
            removed.append(name)
        for start in range(0, len(removed), _NAMES_AT_ONCE):
            self._remove(removed[start : start + _NAMES_AT_ONCE])
        return before_bytes - left_bytes

    def clean(self) -> None:
        """Removes the folder and all that is in it. Raises: DeviceError if it is still there."""
        folder = quote(self.folder)
        if self._run(f"rm -rf {folder}; [ ! -e {folder} ]").code:
            raise Refused(f"{self.folder} on {self._adb.address} cannot be removed; remove it by hand with `adb shell`")

    def _sizes(self, places: Sequence[str]) -> dict[str, int]:
        """Bytes of those files that are there, each marked as used now. Makes the folder. Raises: Refused."""
        folder = quote(self.folder)
        made = self._run(f"mkdir -p {folder} && [ -w {folder} ]")
        if made.code:
            raise self._unwritable(made)
        sizes: dict[str, int] = {}
        for start in range(0, len(places), _NAMES_AT_ONCE):
            names = " ".join(map(quote, places[start : start + _NAMES_AT_ONCE]))
            each = '[ -f "$f" ] && touch -c "$f" && echo "$f" $(wc -c <"$f")'
            said = self._run(f"cd {folder} && for f in {names}; do {each}; done").stdout.decode("utf-8", "replace")
            pairs = (line.split() for line in said.splitlines())
            sizes |= {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}
        return sizes

    def _unwritable(self, made: ShellResult) -> Refused:
        said = printable(made.stderr) or f"exit code {made.code}"
        if "no space" in said.lower():
            return self._full(0)
        return Refused(f"{self.folder} cannot be made on {self._adb.address} ({said}); check the phone's storage")

    def _send(self, place: str, data: bytes, told: Callable[[int, int], None], needed_bytes: int) -> None:
        """Send one file to a name of its own, check it, and give it its place."""
        draft = posixpath.join(self.folder, place + self._part)
        try:
            for _ in range(_SENDS):
                self._adb.push(data, draft, progress=told)
                if self._is_whole(draft, place, data):
                    return
        except DiskFull as error:
            self._remove([place + self._part])
            raise self._full(needed_bytes) from error
        self._remove([place + self._part])
        raise DeviceError(
            f"{len(data)} bytes sent to {self._adb.address} arrived damaged {_SENDS} times; use another cable or port"
        )

    def _is_whole(self, draft: str, place: str, data: bytes) -> bool:
        """Whether a file arrived as it was sent; if so, it is at its place now. May be asked twice."""
        old, new = quote(draft), quote(posixpath.join(self.folder, place))
        done = f"if [ ! -f {old} ] && [ -f {new} ]; then exit 0; fi"
        check = f'sum=$(sha256sum {old}) || exit {_NO_TOOL}; [ "${{sum%% *}}" = {place[:64]} ] || exit {_MISMATCH}'
        move = f"chmod 644 {old} && mv -f {old} {new}"
        timeout_s = _QUICK_S + len(data) / _HASHED_BYTES_PER_S
        said = self._run(f"{done}; {check}; {move}", timeout_s)
        if said.code == _NO_TOOL and self._adb.pull(draft, most_bytes=len(data)) == data:
            said = self._run(f"{done}; {move}")
        if said.code not in (0, _MISMATCH, _NO_TOOL):
            raise Refused(f"a file on {self._adb.address} cannot get its name ({printable(said.stderr)}); try again")
        return said.code == 0

    def _full(self, needed_bytes: int) -> DiskFull:
        return DiskFull(
            f"the storage of {self._adb.address} is full: {_megabytes(needed_bytes)} were needed in {self.folder}, "
            f"{self._free()} are free; remove files there, or what we sent: `amc devices --clean`"
        )

    def _free(self) -> str:
        """What the phone says is free, for people."""
        lines = self._run(f"df -k {quote(self.folder)}").stdout.decode("utf-8", "replace").split("\n")
        words = lines[1].split() if len(lines) > 1 else []
        return _megabytes(1024 * int(words[3])) if len(words) > 3 and words[3].isdecimal() else "unknown"

    def _remove(self, names: Sequence[str]) -> None:
        paths = " ".join(quote(posixpath.join(self.folder, name)) for name in names)
        self._run(f"rm -f {paths}")

    def _run(self, script: str, timeout_s: float = _QUICK_S) -> ShellResult:
        """A script that may be run twice."""
        return self._adb.shell(script, timeout_s=timeout_s, again=True)


def _suffix(name: str) -> str:
    """What the name ends with, if it is plain: .onnx, .bin."""
    suffix = posixpath.splitext(name)[1]
    return suffix if _SUFFIX.fullmatch(suffix) else ""


def _megabytes(count_bytes: int) -> str:
    return f"{count_bytes / 1e6:.1f} MB"

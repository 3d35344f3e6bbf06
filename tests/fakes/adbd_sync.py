"""Files of a fake phone: the "sync:" service in its first version and its second, uncompressed.

Requests are four letters, a little-endian length and a path. As adbd does: SEND makes the folders that are missing,
gives group and others the owner's rights, and after an error reads on until the client is done; STAT of a file that is
not there answers zeros.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from tests.fakes.adbd_faults import Faults
from tests.fakes.adbd_sandbox import Sandbox
from tests.fakes.adbd_streams import Closed, Stream

MOST_DATA = 2**16
_MOST_PATH = 1024
_REQUEST = struct.Struct("<4sI")
_STAT1 = struct.Struct("<4sIII")
_STAT2 = struct.Struct("<4sIQQIIIIQqqq")
_SECOND = {b"STA2": "stat_v2", b"LST2": "stat_v2", b"LIS2": "ls_v2", b"SND2": "sendrecv_v2", b"RCV2": "sendrecv_v2"}


class _Fail(Exception):
    """Answered as FAIL."""


@dataclass
class Sync:
    """Serves one "sync:" stream. `features` decide which second versions are known."""

    sandbox: Sandbox
    faults: Faults
    features: tuple[str, ...]
    drop: Callable[[], None]
    _modified_s: int = 0  # of the file that was pushed last

    def serve(self, stream: Stream) -> None:
        """Answers requests until QUIT or the stream's end. Raises: Closed."""
        answers: dict[bytes, Callable[[Stream, str], None]] = {
            b"STAT": self._stat1,
            b"STA2": lambda stream, path: self._stat2(stream, path, b"STA2"),
            b"LST2": lambda stream, path: self._stat2(stream, path, b"LST2"),
            b"LIST": self._list1,
            b"LIS2": self._list2,
            b"SEND": self._send1,
            b"SND2": self._send2,
            b"RECV": self._receive,
            b"RCV2": self._receive2,
        }
        while True:
            name, length = _REQUEST.unpack(stream.exactly(_REQUEST.size))
            if name == b"QUIT":
                break
            if length > _MOST_PATH:
                _fail(stream, "path too long")
                break
            path = stream.exactly(length).decode("utf-8", "surrogateescape")
            if name not in answers or (name in _SECOND and _SECOND[name] not in self.features):
                _fail(stream, f"unknown command {name!r}")
                break
            try:
                answers[name](stream, path)
            except _Skipped:
                pass
            except _Fail as failure:
                _fail(stream, str(failure))
            except OSError as error:
                _fail(stream, f"{_ing(name)} failed: {os.strerror(error.errno or errno.EIO)}")
        stream.close()

    # ------------------------------------------------------------------------------------------------ looking

    def _stat1(self, stream: Stream, path: str) -> None:
        stream.write(b"STAT" + _short(self.sandbox.path(path)))

    def _stat2(self, stream: Stream, path: str, name: bytes) -> None:
        stream.write(_long(self.sandbox.path(path), name, follow=name == b"STA2"))

    def _list1(self, stream: Stream, path: str) -> None:
        for entry in self._entries(path):
            name = os.fsencode(entry.name)
            stream.write(b"DENT" + _short(entry) + struct.pack("<I", len(name)) + name)
        stream.write(b"DONE" + bytes(16))

    def _list2(self, stream: Stream, path: str) -> None:
        for entry in self._entries(path):
            name = os.fsencode(entry.name)
            stream.write(_long(entry, b"DNT2", follow=False) + struct.pack("<I", len(name)) + name)
        stream.write(b"DONE" + bytes(_STAT2.size))

    def _entries(self, path: str) -> list[Path]:
        """What lies in a folder; nothing for what is none, as adbd answers."""
        folder = self.sandbox.path(path)
        return sorted(folder.iterdir()) if folder.is_dir() else []

    # ------------------------------------------------------------------------------------------------ pushing

    def _send1(self, stream: Stream, request: str) -> None:
        path, comma, mode = request.rpartition(",")
        if not comma or not mode.isdecimal():
            self._refuse_file(stream, "missing , in ID_SEND")
        self._take(stream, path, int(mode))

    def _send2(self, stream: Stream, path: str) -> None:
        name, mode, flags = struct.unpack("<4sII", stream.exactly(12))
        if name != b"SND2" or flags:
            self._refuse_file(stream, f"unsupported flags {flags}")
        self._take(stream, path, mode)

    def _refuse_file(self, stream: Stream, why: str) -> NoReturn:
        """Says FAIL, then reads what the client sends meanwhile, as adbd does. Raises: _Skipped in the end."""
        _fail(stream, why)
        while self._piece(stream) is not None:
            pass
        raise _Skipped

    def _take(self, stream: Stream, phone_path: str, mode: int) -> None:
        """Takes one file or link."""
        path = self.sandbox.path(phone_path)
        try:
            self._take_into(stream, path, mode)
        except OSError as error:
            self._refuse_file(stream, f"couldn't create file: {os.strerror(error.errno or errno.EIO)}")

    def _take_into(self, stream: Stream, path: Path, mode: int) -> None:
        if self.faults.fail_push:
            self._refuse_file(stream, self.faults.fail_push)
        if path.is_dir() and not path.is_symlink():
            self._refuse_file(stream, "couldn't create file: Is a directory")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        modified_s = self._link(stream, path) if stat.S_ISLNK(mode) else self._file(stream, path, mode)
        os.utime(path, (modified_s, modified_s), follow_symlinks=False)
        stream.write(_REQUEST.pack(b"OKAY", 0))

    def _link(self, stream: Stream, path: Path) -> int:
        target = self._piece(stream)
        if isinstance(target, bytes):
            text = target.rstrip(b"\0").decode("utf-8", "surrogateescape")
            path.symlink_to(self.sandbox.path(text) if text.startswith("/") else text)
        return self._done(stream)

    def _done(self, stream: Stream) -> int:
        while isinstance(self._piece(stream), bytes):
            pass
        return self._modified_s

    def _file(self, stream: Stream, path: Path, mode: int) -> int:
        """Writes a file as it comes. What did not fit is removed again."""
        taken = 0
        spoil = self.faults.take("corrupt_push")
        with path.open("wb") as file:
            while (piece := self._piece(stream)) is not None:
                if not self.faults.fits(len(piece)):
                    path.unlink()
                    self.faults.freed(taken)
                    self._refuse_file(stream, f"write failed: {os.strerror(errno.ENOSPC)}")
                if spoil and piece:
                    piece, spoil = bytes([piece[0] ^ 1]) + piece[1:], False
                file.write(piece)
                taken += len(piece)
                most = self.faults.drop_push_after_bytes
                if most is not None and taken >= most and self.faults.take("drop_push_times"):
                    file.flush()
                    self.drop()
                    raise Closed
        path.chmod(_as_adbd(mode))
        return self._modified_s

    def _piece(self, stream: Stream) -> bytes | None:
        """The next piece of a file; None at its end, where its time is kept."""
        name, value = _REQUEST.unpack(stream.exactly(_REQUEST.size))
        if name == b"DONE":
            self._modified_s = value
            return None
        if name != b"DATA" or value > MOST_DATA:
            _fail(stream, "invalid data message" if name != b"DATA" else "oversize data message")
            stream.close()
            raise Closed
        return stream.exactly(value)

    # ------------------------------------------------------------------------------------------------ pulling

    def _receive2(self, stream: Stream, path: str) -> None:
        name, flags = struct.unpack("<4sI", stream.exactly(8))
        if name != b"RCV2" or flags:
            raise _Fail(f"unsupported flags {flags}")
        self._receive(stream, path)

    def _receive(self, stream: Stream, path: str) -> None:
        if self.faults.fail_pull:
            raise _Fail(self.faults.fail_pull)
        while self.faults.endless_pull:
            stream.write(_REQUEST.pack(b"DATA", MOST_DATA) + bytes(MOST_DATA))
        with self.sandbox.path(path).open("rb", buffering=0) as file:
            while data := file.read(MOST_DATA):
                stream.write(_REQUEST.pack(b"DATA", len(data)) + data)
        stream.write(_REQUEST.pack(b"DONE", 0))


class _Skipped(Exception):
    """A file was refused and the client knows."""


def _fail(stream: Stream, why: str) -> None:
    text = why.encode()
    stream.write(_REQUEST.pack(b"FAIL", len(text)) + text)


def _ing(name: bytes) -> str:
    return {b"RECV": "open", b"RCV2": "open"}.get(name, name.decode("latin-1").lower())


def _as_adbd(mode: int) -> int:
    """The owner's rights are given to group and others."""
    mode &= 0o777
    mode |= (mode >> 3) & 0o070
    return mode | (mode >> 3) & 0o007


def _short(path: Path) -> bytes:
    """Mode, size and time in 32 bits each; zeros for what is not there."""
    try:
        found = path.lstat()
    except OSError:
        return bytes(12)
    return struct.pack("<III", found.st_mode, found.st_size & 0xFFFFFFFF, int(found.st_mtime) & 0xFFFFFFFF)


def _long(path: Path, name: bytes, *, follow: bool) -> bytes:
    try:
        found = path.stat() if follow else path.lstat()
    except OSError as error:
        return _STAT2.pack(name, error.errno or errno.EIO, *(0,) * 10)
    times = (int(found.st_atime), int(found.st_mtime), int(found.st_ctime))
    whose = (found.st_mode, found.st_nlink, found.st_uid, found.st_gid)
    return _STAT2.pack(name, 0, found.st_dev, found.st_ino, *whose, found.st_size, *times)

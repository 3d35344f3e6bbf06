"""Files of a phone, by its `sync:` service: SEND, RECV and STAT (AOSP, packages/modules/adb/SYNC.TXT).

Records are joined into blocks as large as a packet, so that one acknowledgement serves many: that is where the speed
of a push comes from.
"""

from __future__ import annotations

import stat
import struct
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import NoReturn

from amc_mobile.errors import DeviceError
from android_bench.adb import ConnectionLost, DiskFull, ProtocolError, Refused, printable
from android_bench.streams import Deadline, Reader, Stream, TimedOut

_RECORD_BYTES = 64 * 1024  # the most that a DATA record may hold
_MOST_REASON_BYTES = 16 * 1024
_MOST_NAME_BYTES = 1024
_MOST_HELD_BYTES = 64 << 20  # that may be on their way to the disk when all has been sent
_SILENCE_S = 30.0
_SLOWEST_BYTES_PER_S = 250_000  # of a cable or a wireless network that is still of use
_HEADER = struct.Struct("<4sI")
_FULL = ("no space left", "disk quota", "enospc", "quota exceeded")


class Files:
    """One `sync:` stream to one phone; closed at the end of a `with`."""

    def __init__(self, stream: Stream, name: str) -> None:
        self._stream = stream
        self._name = name
        self._reader = Reader(stream, name)

    def push(
        self,
        data: bytes,
        remote: str,
        mode: int = 0o644,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Write a file, and see that it is as long as it should be. Raises: Refused, ConnectionLost, ProtocolError."""
        path = self._path(remote)
        deadline = _time_for(len(data))
        try:
            self._push(data, path, mode, progress, deadline)
            size_bytes = self._stat(path, deadline.within(_SILENCE_S))[1]
        except TimedOut as error:
            raise self._silent(f"while {len(data)} bytes were sent") from error
        if size_bytes != len(data) % 2**32:
            raise DeviceError(
                f"{printable(remote)} on {self._name} has {size_bytes} bytes instead of {len(data)}; "
                "see whether its storage is full, then run the command again"
            )

    def pull(self, remote: str, most_bytes: int) -> bytes:
        """What a file holds. Raises: Refused, ConnectionLost, ProtocolError; DeviceError if it is too long."""
        path = self._path(remote)
        deadline = _time_for(most_bytes)
        try:
            mode, size_bytes = self._stat(path, deadline.within(_SILENCE_S))
            if not mode:
                raise Refused(f"there is no file {printable(remote)} on {self._name}, or it may not be read")
            if stat.S_ISREG(mode) and size_bytes > most_bytes:
                raise self._too_long(remote, most_bytes)
            return self._pull(path, most_bytes, deadline)
        except TimedOut as error:
            raise self._silent(f"while {printable(remote)} was fetched") from error

    def __enter__(self) -> Files:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stream.close()

    def _path(self, remote: str) -> bytes:
        path = remote.encode("utf-8", "surrogateescape")
        if not path or b"\0" in path or len(path) > _MOST_NAME_BYTES:
            raise DeviceError(f"'{printable(remote)}' is no file name for a phone; use a shorter, plain one")
        return path

    def _push(
        self,
        data: bytes,
        path: bytes,
        mode: int,
        progress: Callable[[int, int], None] | None,
        deadline: Deadline,
    ) -> None:
        target = path + b",%d" % (stat.S_IFREG | mode & 0o777)
        sent_bytes = 0
        for block, count in self._blocks(data, target):
            if not self._stream.write(block, deadline.within(_SILENCE_S)):
                break  # it has something to say before all was sent: it will be the reason why not
            sent_bytes += count
            if progress and count:
                progress(sent_bytes, len(data))
        on_the_way_bytes = min(len(data), _MOST_HELD_BYTES)
        kind, length = self._header(deadline.within(_SILENCE_S + on_the_way_bytes / _SLOWEST_BYTES_PER_S))
        if kind == b"FAIL":
            self._refuse(length, path, len(data), deadline)
        if kind != b"OKAY" or sent_bytes != len(data):
            raise self._broken(kind)

    def _blocks(self, data: bytes, target: bytes) -> Iterator[tuple[bytes, int]]:
        """What is written one after the other, each with the bytes of the file that it carries."""
        view = memoryview(data)
        record_bytes = max(1, min(_RECORD_BYTES, self._stream.block_bytes - _HEADER.size))
        at_once = max(1, self._stream.block_bytes // (record_bytes + _HEADER.size)) * record_bytes
        parts: list[bytes | memoryview] = [_HEADER.pack(b"SEND", len(target)), target]
        for start in range(0, len(view), at_once):
            block = view[start : start + at_once]
            for begin in range(0, len(block), record_bytes):
                record = block[begin : begin + record_bytes]
                parts += [_HEADER.pack(b"DATA", len(record)), record]
            yield b"".join(parts), len(block)
            parts = []
        parts.append(_HEADER.pack(b"DONE", int(time.time()) & 0xFFFFFFFF))
        yield b"".join(parts), 0

    def _pull(self, path: bytes, most_bytes: int, deadline: Deadline) -> bytes:
        self._send(b"RECV", path, deadline)
        data = bytearray()
        while True:
            kind, length = self._header(deadline.within(_SILENCE_S))
            if kind == b"DONE":
                return bytes(data)
            if kind == b"FAIL":
                self._refuse(length, path, 0, deadline)
            if kind != b"DATA" or not 0 < length <= _RECORD_BYTES:
                raise self._broken(kind)
            if len(data) + length > most_bytes:
                raise self._too_long(path, most_bytes)
            data += self._reader.exactly(length, deadline.within(_SILENCE_S))

    def _stat(self, path: bytes, deadline: Deadline) -> tuple[int, int]:
        """Mode and size (of 32 bits) of a file; zeros if there is none."""
        self._send(b"STAT", path, deadline)
        kind, mode = self._header(deadline)
        if kind != b"STAT":
            raise self._broken(kind)
        size_bytes, _ = struct.unpack("<2I", self._reader.exactly(8, deadline))
        return mode, size_bytes

    def _send(self, kind: bytes, payload: bytes, deadline: Deadline) -> None:
        if not self._stream.write(_HEADER.pack(kind, len(payload)) + payload, deadline.within(_SILENCE_S)):
            raise ConnectionLost(f"{self._name} ended a transfer before it began; check the cable and try again")

    def _header(self, deadline: Deadline) -> tuple[bytes, int]:
        kind, length = _HEADER.unpack(self._reader.exactly(_HEADER.size, deadline))
        return kind, length

    def _refuse(self, length: int, path: bytes, needed_bytes: int, deadline: Deadline) -> NoReturn:
        """Raises: Refused with the phone's reason, in one line."""
        if length > _MOST_REASON_BYTES:
            raise self._broken(b"FAIL")
        said = printable(self._reader.exactly(length, deadline.within(_SILENCE_S)))
        if any(word in said.lower() for word in _FULL):
            raise DiskFull(
                f"the storage of {self._name} is full: {needed_bytes} bytes were to be written to {printable(path)}; "
                "free some, for example with `amc devices --clean`, then run the command again"
            )
        raise Refused(f"{self._name} refuses {printable(path)} ({said}); check the path and its rights")

    def _broken(self, kind: bytes) -> ProtocolError:
        return ProtocolError(
            f"{self._name} breaks the rules of file transfer (it sent '{printable(kind)}'); "
            "restart the phone, then run the command again"
        )

    def _too_long(self, remote: str | bytes, most_bytes: int) -> DeviceError:
        return DeviceError(
            f"{printable(remote)} on {self._name} is longer than the {most_bytes} bytes expected and was not fetched; "
            "check the path"
        )

    def _silent(self, doing: str) -> ConnectionLost:
        return ConnectionLost(f"{self._name} does not answer any more {doing}; check the cable, then try again")


def _time_for(count_bytes: int) -> Deadline:
    """The time that a transfer of so many bytes may take."""
    return Deadline(2 * _SILENCE_S + count_bytes / _SLOWEST_BYTES_PER_S)

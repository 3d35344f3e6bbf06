"""One stream of several on a connection: one packet under way each way until the other side says OKAY."""

from __future__ import annotations

import contextlib
import queue
import threading

from tests.fakes.adbd_packets import CLSE, OKAY, WRTE, Gone, Link, Packet


class Closed(Exception):
    """The other side has closed the stream, or the connection is gone."""


class Stream:
    """Bytes to and from a client's stream."""

    def __init__(self, link: Link, local: int, remote: int) -> None:
        self._link = link
        self.local = local
        self.remote = remote
        self._inbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._okay = threading.Semaphore(1)
        self._writing = threading.Lock()
        self._ended = threading.Event()
        self._rest = b""

    @property
    def ended(self) -> bool:
        return self._ended.is_set()

    # ------------------------------------------------------------- called by the thread that receives packets

    def arrived(self, data: bytes) -> None:
        self._inbox.put(data)

    def okayed(self) -> None:
        self._okay.release()

    def end(self) -> bool:
        """Wakes whoever waits for this stream. False if it had ended."""
        if self._ended.is_set():
            return False
        self._ended.set()
        self._inbox.put(None)
        self._okay.release()
        return True

    # ------------------------------------------------------------- called by the service

    def some(self) -> bytes:
        """The bytes that came next; empty at the end. The client is told to go on when they are taken."""
        if self._rest:
            rest, self._rest = self._rest, b""
            return rest
        data = self._inbox.get()
        if data is None:
            self._inbox.put(None)
            return b""
        try:
            self._link.send(Packet(OKAY, self.local, self.remote))
        except Gone:
            return b""
        return data

    def exactly(self, count: int) -> bytes:
        """Raises: Closed if fewer came."""
        parts, got = [], 0
        while got < count:
            data = self.some()
            if not data:
                raise Closed
            parts.append(data[: count - got])
            self._rest = data[count - got :]
            got += len(parts[-1])
        return b"".join(parts)

    def write(self, data: bytes) -> None:
        """Raises: Closed."""
        with self._writing:
            for start in range(0, len(data), self._link.most_data):
                self._okay.acquire()
                if self.ended:
                    self._okay.release()
                    raise Closed
                try:
                    self._link.send(Packet(WRTE, self.local, self.remote, data[start : start + self._link.most_data]))
                except Gone as error:
                    self.end()
                    raise Closed from error

    def close(self) -> None:
        """Says that nothing more comes; nothing happens if the client closed it before."""
        with self._writing:
            if self.ended:
                return
            self._okay.acquire()  # the last packet was taken
            self._okay.release()
            if self.end():
                with contextlib.suppress(Gone):
                    self._link.send(Packet(CLSE, self.local, self.remote))

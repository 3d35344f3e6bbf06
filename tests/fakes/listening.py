"""A port on loopback for the fakes: nobody else gets it while it is shut, and no thread listens on after the end.

A closed socket goes on listening while a thread waits in its accept, and a port that nobody holds is anybody's. So the
socket is shut down, the thread waited for, and the port held by a bound socket, which refuses connections, until it
listens again.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

_HOST = "127.0.0.1"


class Port:
    """Shows every connection to `meet`, and runs what that answers on a thread of its own.

    When `shut` returns, `meet` has returned for every connection that was taken.
    """

    def __init__(self, meet: Callable[[socket.socket], Callable[[], object]]) -> None:
        self._meet = meet
        self._lock = threading.Lock()
        self._accepting: threading.Thread | None = None
        self._socket = _bound(0)
        self.number: int = self._socket.getsockname()[1]

    @classmethod
    def unused(cls) -> Port:
        """A port where nobody will ever answer."""
        return cls(lambda connection: connection.close)

    @property
    def address(self) -> str:
        return f"{_HOST}:{self.number}"

    def open(self) -> None:
        """Listens. Nothing, if it listens already or was closed."""
        with self._lock:
            if self._accepting is not None or self._socket.fileno() < 0:
                return
            self._socket.listen(16)
            self._accepting = threading.Thread(target=self._accept, args=(self._socket,), daemon=True)
            self._accepting.start()

    def shut(self) -> None:
        """Refuses connections from now on, until it is opened again."""
        with self._lock:
            if self._accepting is None:
                return
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)  # wakes accept, which close does not
            self._accepting.join(10.0)
            self._accepting = None
            self._socket.close()
            self._socket = _bound(self.number)

    def close(self) -> None:
        """Gives the port up."""
        self.shut()
        with self._lock:
            self._socket.close()

    def __enter__(self) -> Port:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._meet(connection), daemon=True).start()


def _bound(number: int) -> socket.socket:
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of before may linger on the port
    held.bind((_HOST, number))
    return held

"""A stream of bytes to one service of a phone, and the time it may take: what both transports offer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from amc_mobile.errors import DeviceError
from android_bench.adb import ConnectionLost


class TimedOut(DeviceError):
    """Nothing came, or nothing could be sent, before the deadline."""


class Deadline:
    """A moment until which something must have happened."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = clock() + seconds

    def left_s(self) -> float:
        """Seconds that are left. Raises: TimedOut if there are none."""
        left_s = self._end - self._clock()
        if left_s <= 0:
            raise TimedOut("the time is up")
        return left_s

    def within(self, seconds: float) -> Deadline:
        """This deadline, or one in `seconds`, whichever comes first."""
        sooner = Deadline(seconds, self._clock)
        sooner._end = min(sooner._end, self._end)
        return sooner


class Stream(Protocol):
    """Bytes to and from one service of the phone."""

    block_bytes: int  # written at once, it travels best

    def read(self, deadline: Deadline) -> bytes:
        """The next bytes; none at the end. Raises: TimedOut, ConnectionLost, ProtocolError."""

    def write(self, data: bytes, deadline: Deadline) -> bool:
        """Send it; False if the phone spoke or hung up before all was sent.

        Raises: TimedOut, ConnectionLost, ProtocolError.
        """

    def close(self) -> None:
        """End the service, which kills its command. Never raises."""

    def answers(self) -> bool:
        """Whether the phone is still there, asked after the stream was closed."""


class Opener(Protocol):
    """What opens streams: one transport."""

    name: str  # of the phone, printable
    features: frozenset[str]

    def open(self, service: bytes, deadline: Deadline) -> Stream:
        """A stream to one service. Raises: Refused, TimedOut, ConnectionLost, ProtocolError."""

    def close(self) -> None:
        """End all. Never raises."""


class Reader:
    """Exactly so many bytes at a time from a stream."""

    def __init__(self, stream: Stream, name: str) -> None:
        self._stream = stream
        self._name = name
        self._held = bytearray()

    def exactly(self, count: int, deadline: Deadline) -> bytes:
        """The next `count` bytes. Raises: ConnectionLost if the stream ends before."""
        while len(self._held) < count:
            piece = self._stream.read(deadline)
            if not piece:
                raise ConnectionLost(f"{self._name} ended a transfer in the middle; check the cable and try again")
            self._held += piece
        taken = bytes(memoryview(self._held)[:count])
        del self._held[:count]
        return taken

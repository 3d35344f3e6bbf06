"""Commands and files of one phone, over whatever opens streams to it: direct.py or server.py."""

from __future__ import annotations

from collections.abc import Callable

from amc_mobile.errors import DeviceError
from android_bench import sync
from android_bench.adb import MOST_OUTPUT_BYTES, ConnectionLost, ShellResult, TooSlow
from android_bench.shell import MarkedScript, PacketScript, Said, Script
from android_bench.streams import Deadline, Opener, Stream, TimedOut

_OPEN_S = 15.0
_MOST_COMMAND_BYTES = 100_000  # a kernel takes 128 KiB in one argument


class Services:
    """The services of one phone. Implements adb.Connection."""

    def __init__(self, opener: Opener) -> None:
        self._opener = opener
        self._name = opener.name

    def shell(
        self,
        command: str,
        *,
        timeout_s: float,
        silent_s: float | None = None,
        on_stdout: Callable[[bytes], None] | None = None,
        most_bytes: int = MOST_OUTPUT_BYTES,
    ) -> ShellResult:
        """As adb.Connection says."""
        said = Said(self._name, most_bytes, on_stdout)
        script: Script = (PacketScript if "shell_v2" in self._opener.features else MarkedScript)(command, said)
        if len(script.service) > _MOST_COMMAND_BYTES or b"\0" in script.service:
            raise DeviceError(f"a command for {self._name} is too long or holds NUL; push it as a file and run that")
        deadline = Deadline(timeout_s)
        stream = self._open(script.service, deadline.within(_OPEN_S))
        try:
            _listen(stream, script, said, deadline, silent_s)
        except TimedOut as error:
            stream.close()
            raise self._too_slow(stream, min(timeout_s, silent_s or timeout_s)) from error
        finally:
            stream.close()
        if said.code is None:
            raise ConnectionLost(f"{self._name} ended a command without an exit code; is it restarting? try again")
        return ShellResult(said.code, said.stdout, said.stderr)

    def push(
        self,
        data: bytes,
        remote: str,
        *,
        mode: int = 0o644,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """As adb.Connection says."""
        with sync.Files(self._open(b"sync:", Deadline(_OPEN_S)), self._name) as files:
            files.push(data, remote, mode, progress)

    def pull(self, remote: str, *, most_bytes: int) -> bytes:
        """As adb.Connection says."""
        with sync.Files(self._open(b"sync:", Deadline(_OPEN_S)), self._name) as files:
            return files.pull(remote, most_bytes)

    def close(self) -> None:
        """As adb.Connection says."""
        self._opener.close()

    def _open(self, service: bytes, deadline: Deadline) -> Stream:
        try:
            return self._opener.open(service, deadline)
        except TimedOut as error:
            raise ConnectionLost(
                f"{self._name} does not answer any more; check the cable, and that it is on"
            ) from error

    def _too_slow(self, stream: Stream, timeout_s: float) -> DeviceError:
        """Which of the two it is: the command is slow, or the phone is gone."""
        if stream.answers():
            return TooSlow(
                f"a command on {self._name} was not done after {timeout_s:.0f} s and was ended; "
                "see whether the phone is busy or hot, then run it again"
            )
        return ConnectionLost(f"{self._name} does not answer any more; check the cable, and that it is on")


def _listen(stream: Stream, script: Script, said: Said, deadline: Deadline, silent_s: float | None) -> None:
    """Read until the command has ended. Raises: TimedOut, DeviceError."""
    while data := stream.read(deadline if silent_s is None else deadline.within(silent_s)):
        script.feed(data)
        deadline.left_s()  # a flood is not waited for either
        if said.code is not None and isinstance(script, PacketScript):
            break
    script.finish()

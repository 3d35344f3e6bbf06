"""Commands of a fake phone: run for real by /bin/sh in its sandbox, with the phone's own PATH.

Protocols: "shell:" (v1: one stream of bytes, stderr merged in, no exit code), "shell,v2": packets of a byte that says
what it is, a little-endian length, and the bytes; "exec:" as v1. Whoever closes the stream kills the command.
"""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass

from tests.fakes.adbd_faults import Faults
from tests.fakes.adbd_sandbox import Backwards, Sandbox
from tests.fakes.adbd_streams import Closed, Stream

STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN = range(5)
_HEADER = struct.Struct("<BI")
_GRACE_S = 0.3  # between the hang-up that a command may hear and its end


@dataclass
class Shell:
    """Runs commands. `drop` ends the connection they came through."""

    sandbox: Sandbox
    faults: Faults
    drop: Callable[[], None]
    crlf: bool = False  # as phones before Android 7, whose v1 shell has a terminal

    def serve(self, stream: Stream, command: bytes, *, packets: bool, terminal_lines: bool = False) -> None:
        """Runs one command until its end or the stream's."""
        touched = self.faults.matching.encode() in command
        process = self._start(command, separate=packets)
        killer = _Killer(process)
        timer = self._drop_later(killer) if touched else None
        talk = _Talk(stream, packets)
        threading.Thread(target=_feed, args=(process, talk, killer), daemon=True).start()
        pumps = [(process.stdout, STDOUT)] + ([(process.stderr, STDERR)] if packets else [])
        crlf = terminal_lines and self.crlf
        threads = [
            threading.Thread(target=self._pump, args=(pipe, kind, talk, touched, crlf), daemon=True)
            for pipe, kind in pumps
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if timer is not None:
            timer.cancel()
        code = process.wait()
        killer.done()
        talk.end(128 - code if code < 0 else code)

    def _start(self, command: bytes, *, separate: bool) -> subprocess.Popen[bytes]:
        root = self.sandbox.root
        environment = {
            "PATH": str(root / "system/bin"),
            "HOME": "/",
            "SHELL": "/bin/sh",
            "ANDROID_ROOT": "/system",
            "TMPDIR": str(root / "data/local/tmp"),
            "AMC_PHONE_ROOT": str(root),
        }
        return subprocess.Popen(
            [b"/bin/sh", b"-c", self.sandbox.command(command)] if command else [b"/bin/sh"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if separate else subprocess.STDOUT,
            cwd=root,
            env=environment,
            start_new_session=True,
            bufsize=0,
        )

    def _drop_later(self, killer: _Killer) -> threading.Timer | None:
        if self.faults.drop_shell_after_s is None:
            return None

        def strike() -> None:
            if self.faults.take("drop_shell_times"):
                self.drop()
                killer.kill()

        timer = threading.Timer(self.faults.drop_shell_after_s, strike)
        timer.daemon = True
        timer.start()
        return timer

    def _pump(self, pipe: object, kind: int, talk: _Talk, touched: bool, crlf: bool) -> None:
        """Hands on what a command says on one of its streams."""
        backwards = Backwards(self.sandbox.root)
        said = 0
        try:
            if touched and kind == STDOUT:
                self._endless(talk)
            while data := os.read(pipe.fileno(), 2**16):  # type: ignore[attr-defined]
                data = backwards.turn(data)
                said += len(data)
                talk.say(kind, data.replace(b"\n", b"\r\n") if crlf else data)
                most = self.faults.drop_shell_after_bytes
                if touched and most is not None and said >= most and self.faults.take("drop_shell_times"):
                    self.drop()
            talk.say(kind, backwards.end())
        except Closed:
            pass  # the command is killed by whoever noticed
        finally:
            pipe.close()  # type: ignore[attr-defined]

    def _endless(self, talk: _Talk) -> None:
        pause = threading.Event()
        while self.faults.flood or self.faults.drip_s is not None:
            if self.faults.flood:
                talk.say(STDOUT, b"flood " * 10_000)
            elif self.faults.drip_s is not None:
                talk.say(STDOUT, b".")
                pause.wait(self.faults.drip_s)


class _Killer:
    """Ends a command and all that it started."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._over = threading.Event()

    def kill(self) -> None:
        """Hangs up on the whole process group; what does not heed it is killed."""
        if self._over.is_set():
            return
        self._signal(signal.SIGHUP)
        self._over.wait(_GRACE_S)
        self._signal(signal.SIGKILL)

    def done(self) -> None:
        self._over.set()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):  # all of it has ended
            os.killpg(self._process.pid, number)


class _Talk:
    """What a command and its client say to each other, in either protocol."""

    def __init__(self, stream: Stream, packets: bool) -> None:
        self.stream = stream
        self.packets = packets

    def say(self, kind: int, data: bytes) -> None:
        if data:
            self.stream.write(_HEADER.pack(kind, len(data)) + data if self.packets else data)

    def end(self, code: int) -> None:
        if self.packets:
            with contextlib.suppress(Closed):
                self.stream.write(_HEADER.pack(EXIT, 1) + bytes([code & 0xFF]))
        self.stream.close()

    def heard(self) -> bytes | None:
        """What the client types next; empty when it will type no more. Raises: Closed."""
        if not self.packets:
            data = self.stream.some()
            if not data:
                raise Closed
            return data
        kind, length = _HEADER.unpack(self.stream.exactly(_HEADER.size))
        data = self.stream.exactly(length)
        return data if kind == STDIN else b"" if kind == CLOSE_STDIN else None


def _feed(process: subprocess.Popen[bytes], talk: _Talk, killer: _Killer) -> None:
    """Gives the command its stdin until the client closes the stream, which is the command's end."""
    stdin = process.stdin
    try:
        while True:
            data = talk.heard()
            if data is None or stdin is None or stdin.closed:
                continue
            try:
                stdin.write(data)
                if not data:
                    stdin.close()
            except OSError:
                stdin.close()  # the command reads no more
    except Closed:
        killer.kill()
    finally:
        if stdin is not None and not stdin.closed:
            with contextlib.suppress(OSError):
                stdin.close()

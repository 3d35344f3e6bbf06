"""What a command on the phone says: exit code and both streams, of daemons that tell them apart and of others.

Since Android 7 the service `shell,v2,raw` sends packets (u8 kind, u32 length; 1 stdout, 2 stderr, 3 exit code). Before
that there is one stream, through a terminal: there the command is wrapped, and marks with a random word tell the parts.
"""

from __future__ import annotations

import re
import secrets
import shlex
from collections.abc import Callable
from typing import Protocol

from amc_mobile.errors import DeviceError
from android_bench.adb import ProtocolError

_STDOUT, _STDERR, _EXIT = 1, 2, 3
_MOST_PACKET_BYTES = 1 << 24

# The shell is the first of its session: when the connection ends, the daemon hangs up on it, and it takes all that it
# started with it. A shell that is not (some test daemon) must not shoot around itself.
_HANG_UP = """read -r amc_1 amc_2 amc_3 amc_4 amc_group amc_rest 2>/dev/null </proc/$$/stat
[ "$amc_group" = $$ ] && trap 'trap "" HUP; kill -HUP 0; exit 129' HUP
"""
# stderr goes to a file that a flood cannot fill the phone with, where its `head` can count.
_MARKED = """for amc_err in "$TMPDIR" /data/local/tmp /tmp; do [ -d "$amc_err" ] && [ -w "$amc_err" ] && break; done
amc_err=$amc_err/.{mark}
amc_most="head -c {most}"; echo | head -c 1 >/dev/null 2>&1 || amc_most=cat
{hang_up}echo {mark}
{{ {{ (eval {command}) 2>&1 >&3 3>&-; echo $? >$amc_err.code; }} | $amc_most >$amc_err; }} 3>&1 </dev/null & wait $!
echo {mark}:$(cat $amc_err.code):
cat $amc_err; rm -f $amc_err $amc_err.code"""


class Said:
    """The streams of one command, bounded."""

    def __init__(self, name: str, most_bytes: int, on_stdout: Callable[[bytes], None] | None) -> None:
        self.code: int | None = None
        self.name = name
        self.most_bytes = most_bytes
        self._on_stdout = on_stdout
        self._kept = {_STDOUT: bytearray(), _STDERR: bytearray()}
        self._count = {_STDOUT: 0, _STDERR: 0}

    def add(self, stream: int, data: bytes) -> None:
        """Take a piece of one stream. Raises: DeviceError if it is too much."""
        if not data:
            return
        self._count[stream] += len(data)
        if self._count[stream] > self.most_bytes:
            raise DeviceError(
                f"the command on {self.name} said more than {self.most_bytes} bytes and was cut off; "
                "restart the phone if this happens again"
            )
        if stream == _STDOUT and self._on_stdout:
            self._on_stdout(data)
        else:
            self._kept[stream] += data

    @property
    def stdout(self) -> bytes:
        """What was not handed over."""
        return bytes(self._kept[_STDOUT])

    @property
    def stderr(self) -> bytes:
        """All of it."""
        return bytes(self._kept[_STDERR])


class Script(Protocol):
    """A command as one kind of daemon wants it, and how its answer is read."""

    service: bytes

    def feed(self, data: bytes) -> None:
        """Take what came. Raises: DeviceError for too much, or for what is no answer."""

    def finish(self) -> None:
        """Nothing more comes."""


class PacketScript:
    """For daemons with the feature shell_v2."""

    def __init__(self, command: str, said: Said) -> None:
        script = f"{_HANG_UP}{{ eval {shlex.quote(command)}; }} & wait $!"  # eval: a mistake in it ends nothing else
        self.service = b"shell,v2,raw:" + script.encode("utf-8", "surrogateescape")
        self._said = said
        self._held = b""
        self._kind = 0
        self._left = 0  # bytes of the packet that are still to come

    def feed(self, data: bytes) -> None:
        """Take a piece, cut anywhere."""
        data = self._held + data
        while data and self._said.code is None:
            if not self._left:
                if len(data) < 5:
                    break
                self._begin(data[0], int.from_bytes(data[1:5], "little"))
                data = data[5:]
            piece, data = data[: self._left], data[self._left :]
            self._left -= len(piece)
            if self._kind == _EXIT and piece:
                self._said.code = piece[0]
            elif self._kind != _EXIT:
                self._said.add(self._kind, piece)
        self._held = data

    def finish(self) -> None:
        """Nothing is held back."""

    def _begin(self, kind: int, length: int) -> None:
        if kind not in (_STDOUT, _STDERR, _EXIT) or length > _MOST_PACKET_BYTES:
            raise ProtocolError(
                f"{self._said.name} answers a command with what is no output; restart the phone, "
                "then run the command again"
            )
        self._kind, self._left = kind, length


class MarkedScript:
    """For daemons of Android 6 and before: stderr goes through a file, and the exit code follows a mark."""

    def __init__(self, command: str, said: Said) -> None:
        mark = f"amc-{secrets.token_hex(16)}"
        script = _MARKED.format(mark=mark, hang_up=_HANG_UP, command=shlex.quote(command), most=said.most_bytes + 1)
        self.service = b"shell:" + script.encode("utf-8", "surrogateescape")
        self._said = said
        self._mark = mark.encode()
        self._end = re.compile(re.escape(self._mark) + rb":(\d{1,3}):\r?\n")
        self._longest = len(mark) + len(":255:\r")
        self._held = b""
        self._begun = False
        self._terminal = False  # it turns every \n into \r\n

    def feed(self, data: bytes) -> None:
        """Take a piece, cut anywhere."""
        data = self._held + data
        self._held = b""
        if not self._begun:
            data = self._begin(data)
        if self._begun and self._said.code is None:
            data = self._out(data)
        if self._begun and data:
            self._held = self._add(_STDERR, data)

    def finish(self) -> None:
        """The stream ended: what was held back is the last of stderr."""
        if self._said.code is not None:
            self._said.add(_STDERR, self._held)
            self._held = b""

    def _begin(self, data: bytes) -> bytes:
        """What follows the first mark; before it, a linker may have grumbled."""
        _, mark, after = data.partition(self._mark)
        line, newline, rest = after.partition(b"\n")
        if not mark or not newline:
            self._held = data[-4096:]
            return b""
        self._begun, self._terminal = True, line.endswith(b"\r")
        return rest

    def _out(self, data: bytes) -> bytes:
        """Hand over stdout; what follows the second mark, or nothing if it has not come yet."""
        end = self._end.search(data)
        if end:
            self._add(_STDOUT, data[: end.start()], last=True)
            self._said.code = int(end[1])
            return data[end.end() :]
        kept = next(i for i in range(max(0, len(data) - self._longest), len(data) + 1) if self._may_be_mark(data[i:]))
        self._held = self._add(_STDOUT, data[:kept]) + data[kept:]
        return b""

    def _may_be_mark(self, tail: bytes) -> bool:
        """Whether the second mark may begin with `tail`, or tail with it."""
        return self._mark.startswith(tail) or tail.startswith(self._mark)

    def _add(self, stream: int, data: bytes, *, last: bool = False) -> bytes:
        r"""Take a piece, with the terminal's \r undone; a \r at its end is given back, for its \n may follow."""
        held = b"\r" if self._terminal and data.endswith(b"\r") and not last else b""
        data = data[: len(data) - len(held)]
        self._said.add(stream, data.replace(b"\r\n", b"\n") if self._terminal else data)
        return held

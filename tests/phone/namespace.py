"""A network of its own for programs that must not be reached from outside: `inside(COMMAND)` runs one in it.

    python -m tests.phone.namespace FOLDER COMMAND...   # the part within: loopback is brought up, then COMMAND runs

FOLDER is its /tmp, so that a daemon of Linux, whose files go there, leaves nothing behind. The real adbd asks nobody
who he is and listens on every address, and on VM sockets, which no namespace covers: those are forbidden to it and to
all that runs beside it.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1  # of <linux/sockios.h> and <linux/if.h>
_REQUEST = struct.Struct("16sh22x")
_SOCKET_CALL = {"x86_64": 41, "aarch64": 198}
_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_VM_SOCKETS = 40  # AF_VSOCK
_ENDS = ("-p", "-f", "--mount-proc", "--kill-child")  # a process tree of its own too: nothing in it outlives us
_WAYS = (
    ("unshare", "-n", "-m", *_ENDS),
    ("unshare", "-r", "-n", "-m", *_ENDS),
    ("sudo", "-n", "-E", "unshare", "-n", "-m", *_ENDS),
)


def way_in() -> tuple[str, ...]:
    """The command before a command that runs it in a network of its own; empty where none is allowed to us."""
    for way in _WAYS:
        if shutil.which(way[0]) and not subprocess.run([*way, "true"], capture_output=True, check=False).returncode:
            return way
    return ()


def inside(command: Sequence[str], temporary: Path) -> int:
    """Runs a command in a network and with a /tmp of its own, as root there. Its exit code."""
    home = [f"{name}={os.environ[name]}" for name in ("HOME", "XDG_CACHE_HOME") if name in os.environ]  # sudo's differs
    prepared = ["env", *home, sys.executable, "-m", "tests.phone.namespace", str(temporary), *command]
    return subprocess.run([*way_in(), *prepared], check=False).returncode


def alone() -> bool:
    """Whether nothing but loopback is up here, so that nobody else can connect."""
    with socket.socket() as any_socket:
        return {name for _, name in socket.if_nameindex() if _flags(any_socket, name) & _UP} == {"lo"}


def raise_loopback() -> None:
    """What `ip link set lo up` does, where there is no `ip`."""
    with socket.socket() as any_socket:
        flags = _flags(any_socket, "lo") | _UP
        fcntl.ioctl(any_socket, _SET_FLAGS, _REQUEST.pack(b"lo", flags))


def forbid_vm_sockets() -> None:
    """From now on, here and in every child: no socket between virtual machines (seccomp). Raises: OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    machine = platform.machine()
    load, equal, answer = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
    allow, refuse = 0x7FFF0000, 0x00050000 | 97  # EAFNOSUPPORT
    lines = [
        (load, 0, 0, 4),  # the architecture
        (equal, 0, 5, _ARCHITECTURE[machine]),
        (load, 0, 0, 0),  # the system call
        (equal, 0, 3, _SOCKET_CALL[machine]),
        (load, 0, 0, 16),  # its first argument
        (equal, 0, 1, _VM_SOCKETS),
        (answer, 0, 0, refuse),
        (answer, 0, 0, allow),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in lines))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(lines), ctypes.addressof(code)))
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, program, 0, 0):  # no new privileges; the filter
        raise OSError(ctypes.get_errno(), "the kernel takes no seccomp filter")


def _flags(any_socket: socket.socket, name: str) -> int:
    answer = fcntl.ioctl(any_socket, _GET_FLAGS, _REQUEST.pack(name.encode(), 0))
    return int(_REQUEST.unpack(answer)[1])


def main() -> None:
    """Prepares the namespace that it is started in and becomes the command."""
    raise_loopback()
    forbid_vm_sockets()
    if not alone():
        raise SystemExit("this is no network of its own; nothing is started")
    temporary, *command = sys.argv[1:]
    needed = (temporary, sys.executable, Path.cwd(), Path.home())
    if not any(Path(path).resolve().is_relative_to("/tmp") for path in needed):  # noqa: S108 - it is what is meant
        subprocess.run(["mount", "--bind", temporary, "/tmp"], check=True)  # noqa: S108
        os.environ.pop("TMPDIR", None)
    os.execvp(command[0], command)  # noqa: S606 - it becomes the command


if __name__ == "__main__":
    main()

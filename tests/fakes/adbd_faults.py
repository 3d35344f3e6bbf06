"""What may go wrong with a fake phone. A test may change any of it while the daemon runs."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field


@dataclass
class Faults:
    """Nothing goes wrong by default. Dropping means: the connection ends at once and what it ran is killed.

    Services are named as they are opened: "shell,v2", "exec:", "sync:". `matching`: only shell commands that hold this
    text are touched by the faults of the shell.
    """

    # The link
    garbage: bool = False  # answers the first packet with bytes that are no packets
    silent: bool = False  # takes connections and never answers: "offline"
    oversized: bool = False  # answers OPEN with a packet that says it is 4 GB long, and sends on and on
    wrong_checksums: bool = False  # shows where the client asked for checksums (version=CHECKED)
    bytes_per_s: float | None = None  # of the link, each way; new connections
    refused: tuple[str, ...] = ()  # services that answer CLSE
    mute: tuple[str, ...] = ()  # services that answer nothing at all

    # Files
    drop_push_after_bytes: int | None = None  # of one push
    drop_push_times: int = 1
    fail_push: str = ""  # what FAIL says to every push
    fail_pull: str = ""
    disk_bytes: int | None = None  # that still fit; then FAIL with "No space left on device"
    corrupt_push: int = 0  # so many pushes arrive with one bit turned
    endless_pull: bool = False  # a file that never ends

    # Commands
    matching: str = ""
    drop_shell_after_s: float | None = None  # into a command
    drop_shell_after_bytes: int | None = None  # of its output
    drop_shell_times: int = 1
    flood: bool = False  # stdout without end
    drip_s: float | None = None  # one byte of stdout every so often, for ever
    reboot_after_commands: int | None = None  # reboots when so many more have ended
    reboot_s: float = 0.5  # how long it is away

    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def take(self, name: str) -> bool:
        """Uses up one of a fault's times: `take("drop_push_times")`. False when there are none left."""
        with self._lock:
            left = int(getattr(self, name))
            setattr(self, name, max(left - 1, 0))
            return left > 0

    def fits(self, count: int) -> bool:
        """Takes room on the disk. False when it is full."""
        with self._lock:
            if self.disk_bytes is None:
                return True
            if count > self.disk_bytes:
                return False
            self.disk_bytes -= count
            return True

    def freed(self, count: int) -> None:
        """Gives room back: the part of a file that was removed again."""
        with self._lock:
            if self.disk_bytes is not None:
                self.disk_bytes += count

    def commanded(self) -> bool:
        """One command has ended. True when it is time to reboot."""
        with self._lock:
            if self.reboot_after_commands is None:
                return False
            self.reboot_after_commands -= 1
            if self.reboot_after_commands > 0:
                return False
            self.reboot_after_commands = None
            return True

"""An ADB daemon on loopback that speaks the real protocol and runs real commands in a sandbox: a phone for tests.

    with FakeAdbd(tmp_path / "phone", phone=pixel(), faults=Faults(drop_push_after_bytes=100_000)) as daemon:
        daemon.address                      # "127.0.0.1:PORT", the same after a restart
        daemon.phone.clock(8, 600_000)      # clocks, heat, battery change under the client's eyes
        daemon.reboot()                     # every connection and command dies, files stay

What it speaks (checked with adb 29 and 34, adb-shell and adbutils in tests/phone):

* CNXN with a banner and features; both versions of the protocol (`version=CHECKED`: with checksums).
* AUTH: `auth=None` lets everybody in; "allow": an unknown key is let in by the owner, `tap_s` seconds later, and kept;
  "refuse": the owner never taps, and the client waits for ever; or a list of public keys (lines of adbkey.pub).
  Signatures are checked with the real key.
* OPEN, OKAY, WRTE, CLSE with several streams at once, one packet under way on each.
* "shell:" and "shell,v2:" (adbd_shell), "exec:", "sync:" (adbd_sync), "reboot:". Everything else is refused.

Commands are real ones: /bin/sh in the folder `root`, where the phone's absolute paths (adbd_sandbox.TREES) lie. Its
PATH holds what Android's toybox has and the commands that adbd_phone serves from files. Paths in commands and in what
they print are translated; those inside files are not: a program finds the root in AMC_PHONE_ROOT. `real` names trees
that are not translated. Closing a stream kills the command with all that it started.

What may go wrong is in adbd_faults.Faults; `daemon.faults` may be changed at any time.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Literal

from tests.fakes.adbd_auth import Owner
from tests.fakes.adbd_client import Client
from tests.fakes.adbd_faults import Faults
from tests.fakes.adbd_packets import MOST_DATA, UNCHECKED, Link
from tests.fakes.adbd_phone import Controls, Phone, bare, linux, pixel
from tests.fakes.adbd_sandbox import Sandbox
from tests.fakes.listening import Port

__all__ = ["FEATURES", "FakeAdbd", "Faults", "Phone", "bare", "linux", "pixel"]

FEATURES = ("shell_v2", "cmd", "stat_v2", "ls_v2", "fixed_push_mkdir", "sendrecv_v2")
Auth = Literal["allow", "refuse"] | Iterable[str] | None


class FakeAdbd:
    """The daemon. Everything it was asked is kept: `connections`, `services`, `commands`."""

    def __init__(
        self,
        root: Path,
        *,
        phone: Phone | None = None,
        faults: Faults | None = None,
        auth: Auth = None,
        tap_s: float = 0.0,
        features: tuple[str, ...] = FEATURES,
        version: int = UNCHECKED,
        most_data: int = MOST_DATA,
        crlf: bool = False,
        real: tuple[str, ...] = (),
    ) -> None:
        self.sandbox = Sandbox(root, real)
        self.faults = faults or Faults()
        self.features = features
        self.version = version
        self.most_data = most_data
        self.crlf = crlf
        self.owner = Owner.of(auth, tap_s)
        self.described = phone or pixel()
        self.phone = Controls(self.sandbox)
        self.connections = 0  # that were taken since the beginning
        self.reboots = 0
        self.services: list[str] = []  # that were opened, as the client named them
        self._lock = threading.Lock()
        self._open: set[Client] = set()
        self._port = Port(self._meet)

    @property
    def address(self) -> str:
        return self._port.address

    @property
    def port(self) -> int:
        return self._port.number

    @property
    def root(self) -> Path:
        return self.sandbox.root

    @property
    def commands(self) -> list[str]:
        """The command lines that were run so far."""
        kinds = ("shell:", "shell,", "exec:")
        return [name.partition(":")[2] for name in list(self.services) if name.startswith(kinds)]

    @property
    def connected(self) -> int:
        """How many connections are open now."""
        return len(self._open)

    def __enter__(self) -> FakeAdbd:
        self.described.fill(self.sandbox)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._port.close()

    # ------------------------------------------------------------------------------------------ what a test does to it

    def start(self) -> None:
        """Listens on its port, the same one ever."""
        self._port.open()

    def kill(self) -> None:
        """The daemon dies: port shut, connections dropped, commands killed."""
        self._port.shut()
        self.disconnect()

    def disconnect(self) -> None:
        """Drops every connection, as a pulled cable does, and kills what they ran; the port stays open."""
        with self._lock:
            clients = list(self._open)
        for client in clients:
            client.link.drop()
        for client in clients:
            client.gone.wait(5.0)

    def restart(self) -> None:
        """The daemon dies and starts again."""
        self.kill()
        self.start()

    def reboot(self, away_s: float | None = None) -> None:
        """The phone reboots: away for a while (`faults.reboot_s`), its files stay. Returns at once."""
        self.kill()
        self.reboots += 1
        timer = threading.Timer(self.faults.reboot_s if away_s is None else away_s, self.start)
        timer.daemon = True
        timer.start()

    def go_offline(self) -> None:
        """Nothing that comes is answered any more, on old connections and new ones, until `go_online`."""
        self.faults.silent = True

    def go_online(self) -> None:
        """Answers again; connections from before stay dead."""
        self.disconnect()
        self.faults.silent = False

    # ------------------------------------------------------------------------------------------ how it serves

    def _meet(self, connection: socket.socket) -> Callable[[], None]:
        client = Client(self, Link(connection, self.faults.bytes_per_s))
        with self._lock:
            self.connections += 1
            self._open.add(client)
        return partial(self._serve, client)

    def _serve(self, client: Client) -> None:
        try:
            client.serve()
        finally:
            with self._lock:
                self._open.discard(client)
            client.gone.set()

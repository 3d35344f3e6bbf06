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

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

from tests.fakes import adbd_auth
from tests.fakes.adbd_auth import Owner
from tests.fakes.adbd_faults import Faults
from tests.fakes.adbd_packets import AUTH, CLSE, CNXN, MOST_DATA, OKAY, OPEN, UNCHECKED, WRTE, Gone, Link, Packet
from tests.fakes.adbd_phone import Controls, Phone, bare, linux, pixel
from tests.fakes.adbd_sandbox import Sandbox
from tests.fakes.adbd_shell import Shell
from tests.fakes.adbd_streams import Closed, Stream
from tests.fakes.adbd_sync import Sync

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
        self.port = 0
        self.connections = 0  # that were taken since the beginning
        self.reboots = 0
        self.services: list[str] = []  # that were opened, as the client named them
        self._lock = threading.Lock()
        self._open: set[_Client] = set()
        self._listener: socket.socket | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

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

    # ------------------------------------------------------------------------------------------ what a test does to it

    def start(self) -> None:
        """Opens the port: a free one at first, the same one ever after."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(16)
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def kill(self) -> None:
        """The daemon dies: port shut, connections dropped, commands killed."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
            self._nudge()
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

    def _accept(self, listener: socket.socket) -> None:
        while self._listener is listener:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            if self._listener is not listener:
                connection.close()
                return
            self.connections += 1
            client = _Client(self, Link(connection, self.faults.bytes_per_s))
            with self._lock:
                self._open.add(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: _Client) -> None:
        try:
            client.serve()
        finally:
            with self._lock:
                self._open.discard(client)
            client.gone.set()

    def _nudge(self) -> None:
        """Wakes the thread that waits in accept: closing the socket does not."""
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=0.5).close()


class _Client:
    """One connection: its handshake, its streams."""

    def __init__(self, daemon: FakeAdbd, link: Link) -> None:
        self.daemon = daemon
        self.link = link
        self.gone = threading.Event()
        self._streams: dict[int, Stream] = {}
        self._services: list[threading.Thread] = []
        self._ids = itertools.count(1)
        self._token = b""
        self._hello: Packet | None = None
        self._online = False

    def serve(self) -> None:
        """Answers packets until the connection ends, and then ends what it ran."""
        answers: dict[int, Callable[[Packet], None]] = {
            CNXN: self._connect,
            AUTH: self._authorise,
            OPEN: self._open,
            OKAY: self._okay,
            WRTE: self._write,
            CLSE: self._close,
        }
        try:
            while True:
                packet = self.link.receive()
                if not self.daemon.faults.silent and packet.command in answers:
                    answers[packet.command](packet)
        except Gone:
            pass
        finally:
            self.link.close()
            for stream in list(self._streams.values()):
                stream.end()
            for thread in self._services:
                thread.join(5.0)

    # ------------------------------------------------------------------------------------------ handshake

    def _connect(self, packet: Packet) -> None:
        if self.daemon.faults.garbage:
            self.link.send_raw(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n" * 100)
            return
        self._hello = packet
        self.link.most_data = min(packet.second, self.daemon.most_data)
        if self.daemon.owner is None:
            self._welcome()
        else:
            self._challenge()

    def _welcome(self) -> None:
        assert self._hello is not None
        banner = f"device::{self.daemon.described.banner}features={','.join(self.daemon.features)}"
        self.link.send(Packet(CNXN, self.daemon.version, self.daemon.most_data, banner.encode()))
        self.link.version = min(self._hello.first, self.daemon.version)
        self.link.spoil_checksums = self.daemon.faults.wrong_checksums
        self._online = True

    def _challenge(self) -> None:
        self._token = adbd_auth.token()
        self.link.send(Packet(AUTH, adbd_auth.TOKEN, 0, self._token))

    def _authorise(self, packet: Packet) -> None:
        owner = self.daemon.owner
        if owner is None or not self._token or self._online:
            return
        if packet.first == adbd_auth.SIGNATURE:
            if owner.knows(self._token, packet.data):
                self._welcome()
            else:
                self._challenge()
        elif packet.first == adbd_auth.PUBLIC_KEY and owner.allows(packet.data):
            time.sleep(owner.tap_s)
            self._welcome()

    # ------------------------------------------------------------------------------------------ streams

    def _open(self, packet: Packet) -> None:
        if not self._online:
            return
        name = packet.data.rstrip(b"\0")
        faults = self.daemon.faults
        shown = name.decode("utf-8", "replace")
        self.daemon.services.append(shown)
        if shown.startswith(faults.mute):
            return
        local = next(self._ids)
        stream = Stream(self.link, local, packet.first)
        service = None if shown.startswith(faults.refused) else self._service(name, stream)
        if service is None:
            self.link.send(Packet(CLSE, 0, packet.first))
            return
        self._streams[local] = stream
        self.link.send(Packet(OKAY, local, packet.first))
        if faults.oversized:
            self._overflow(stream)
        thread = threading.Thread(target=self._run, args=(service, stream, not name.startswith(b"sync")), daemon=True)
        self._services = [*(old for old in self._services if old.is_alive()), thread]
        thread.start()

    def _service(self, name: bytes, stream: Stream) -> Callable[[], None] | None:
        """What serves a stream of that name; None for what is refused."""
        kind, _, argument = name.partition(b":")
        daemon = self.daemon
        shell = Shell(daemon.sandbox, daemon.faults, self.link.drop, daemon.crlf)
        words = kind.split(b",")
        if words[0] == b"shell" and b"v2" in words:
            known = "shell_v2" in daemon.features
            return (lambda: shell.serve(stream, argument, packets=True)) if known else None
        if words[0] in (b"shell", b"exec"):
            lines = words[0] == b"shell"
            return lambda: shell.serve(stream, argument, packets=False, terminal_lines=lines)
        if kind == b"sync":
            sync = Sync(daemon.sandbox, daemon.faults, daemon.features, self.link.drop)
            return lambda: sync.serve(stream)
        if kind == b"reboot":
            return self._reboot_soon
        return None

    def _run(self, service: Callable[[], None], stream: Stream, command: bool) -> None:
        try:
            service()
            stream.close()
        except Closed:
            pass
        finally:
            self._streams.pop(stream.local, None)
        if command and self.daemon.faults.commanded():
            self._reboot_soon()

    def _reboot_soon(self) -> None:
        threading.Thread(target=self.daemon.reboot, daemon=True).start()

    def _overflow(self, stream: Stream) -> None:
        header = Packet(WRTE, stream.local, stream.remote).encoded(self.link.version)
        self.link.send_raw(header[:12] + (0xFFFF_FFF0).to_bytes(4, "little") + header[16:])
        while True:
            self.link.send_raw(bytes(2**20))

    def _okay(self, packet: Packet) -> None:
        stream = self._streams.get(packet.second)
        if stream is not None:
            stream.okayed()

    def _write(self, packet: Packet) -> None:
        stream = self._streams.get(packet.second)
        if stream is not None:
            stream.arrived(packet.data)

    def _close(self, packet: Packet) -> None:
        """Answers CLSE with CLSE, as adbd does: adb-shell waits for it."""
        stream = self._streams.pop(packet.second, None)
        if stream is not None and stream.end():
            self.link.send(Packet(CLSE, stream.local, stream.remote))

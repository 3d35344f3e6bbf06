"""One client of the fake phone: its handshake and its streams."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.fakes import adbd_auth
from tests.fakes.adbd_packets import AUTH, CLSE, CNXN, OKAY, OPEN, WRTE, Gone, Link, Packet
from tests.fakes.adbd_shell import Shell
from tests.fakes.adbd_streams import Closed, Stream
from tests.fakes.adbd_sync import Sync

if TYPE_CHECKING:
    from tests.fakes.adbd import FakeAdbd


class Client:
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
